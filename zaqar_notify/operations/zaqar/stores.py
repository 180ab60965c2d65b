"""The store: where Zaqar keeps its own, and where the service would keep its."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from zaqar_notify.operations.zaqar.conf import ZaqarConf
from zaqar_notify.operations.zaqar.lines import Line, Note, Setting
from zaqar_notify.settings import variable

OUR_DATABASE = "zaqar_notify"
_CONCERNS = frozenset({"w", "j", "journal", "fsync", "wtimeout", "wtimeoutms"})
"""The service asks for a majority and the journal itself."""


def store(conf: ZaqarConf) -> Iterator[Line]:
    """The stores and the broker."""
    if not conf.message_store.startswith("mongodb"):
        yield Note(
            f"[drivers] message_store is {conf.message_store}: `zaqar-notify up` keeps everything in DIR of --data. A "
            "cluster needs ZAQAR_STORE_URI: mongodb://HOSTS/?replicaSet=NAME, or redis://HOST:PORT/N of a Redis with "
            "appendonly yes and appendfsync always, which Zaqar's own can be, with another N (docs/cluster.md)"
        )
    else:
        yield from _mongodb(conf, "message", "store_uri")
    if conf.management_store != conf.message_store:
        yield Note(
            f"[drivers] management_store is {conf.management_store}: the service keeps queues, pools and flavors "
            "beside messages, unless ZAQAR_CONTROL_URI names a store for them"
        )
    elif _hosts(_uri_of(conf, "management")) != _hosts(_uri_of(conf, "message")):
        yield from _mongodb(conf, "management", "control_uri")
    uri = next((uri for uri in _redis_uris(conf) if uri), "")
    if uri:
        yield from _broker(uri)
    else:
        yield Note("A cluster needs ZAQAR_BROKER_URI as well, as in redis://HOST:6379/0")


def _uri_of(conf: ZaqarConf, plane: str) -> str:
    """The URI of the MongoDB of one plane; empty: it is none, or not named."""
    return conf.get(f"drivers:{plane}_store:mongodb", "uri")


def _hosts(uri: str) -> str:
    return urlsplit(uri).netloc.rpartition("@")[2]


def _mongodb(conf: ZaqarConf, plane: str, setting: str) -> Iterator[Line]:
    section, given = f"drivers:{plane}_store:mongodb", _uri_of(conf, plane)
    if not given:
        yield Note(
            f"[{section}] uri is not set: for a cluster set {variable(setting)} yourself, as in "
            "mongodb://HOSTS/?replicaSet=NAME"
        )
        return
    yield Note(f"The database {OUR_DATABASE} beside Zaqar's own: both can run at the same time.")
    uri = our_uri(given, OUR_DATABASE, dict(_tls(conf, section)))
    yield Setting(setting, uri)
    if conf.get(section, "ssl_keyfile"):
        yield Note(
            "MongoDB's client takes one file with certificate and key: join the files of ssl_certfile and ssl_keyfile, "
            f"and add tlsCertificateKeyFile=FILE to {variable(setting)}"
        )
    if "replicaset=" not in uri.lower():
        yield Note(
            f"{variable(setting)} must name a replica set (replicaSet=NAME) or a mongos; with one server alone it needs "
            "ZAQAR_UNRELIABLE=true"
        )


def our_uri(given: str, database: str, tls: Mapping[str, str]) -> str:
    """The URI of a database of ours on a MongoDB of Zaqar's; `tls` has options for a URI that asks for TLS."""
    parts = urlsplit(f"mongodb://{given.rpartition('://')[2]}")
    former = parts.path.strip("/")
    options = [
        ("tls" if name.lower() == "ssl" else name, value)
        for name, value in parse_qsl(parts.query)
        if name.lower() not in _CONCERNS
    ]
    names = {name.lower() for name, _ in options}
    if "@" in parts.netloc and "authsource" not in names:
        options.append(("authSource", former or "admin"))
    if "tls" in names:
        options += tls.items()
    query = urlencode(options, quote_via=quote, safe="/:,")
    return parts._replace(path=f"/{database}", query=query).geturl()


def _tls(conf: ZaqarConf, section: str) -> Iterator[tuple[str, str]]:
    if ca_file := conf.get(section, "ssl_ca_certs"):
        yield "tlsCAFile", ca_file
    certificate = conf.get(section, "ssl_certfile")
    if certificate and not conf.get(section, "ssl_keyfile"):
        yield "tlsCertificateKeyFile", certificate
    if conf.get(section, "ssl_cert_reqs") == "CERT_NONE":
        yield "tlsAllowInvalidCertificates", "true"


def _redis_uris(conf: ZaqarConf) -> Iterator[str]:
    for kind, driver in (
        ("message_store", conf.message_store),
        ("management_store", conf.management_store),
    ):
        if driver == "redis":
            yield conf.get(f"drivers:{kind}:redis", "uri", "redis://127.0.0.1:6379")


def _broker(uri: str) -> Iterator[Line]:
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if "master" in options or not parts.netloc:
        yield Note(
            "A cluster needs ZAQAR_BROKER_URI as well: Zaqar's Redis has sentinels or a socket, and the form of the URI "
            "differs (docs/cluster.md)"
        )
        return
    yield Note("Zaqar's Redis can be the broker of a cluster, too; its keys have a prefix.")
    yield Setting("broker_uri", f"redis://{parts.netloc}/{options.get('dbid', '0')}")
