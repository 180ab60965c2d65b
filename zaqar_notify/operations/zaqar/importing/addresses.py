"""The addresses of a Zaqar's databases."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from zaqar_notify.errors import StartRefused
from zaqar_notify.models import undisclosed
from zaqar_notify.operations.zaqar.conf import ZaqarConf, read_zaqar_conf

MONGODB, REDIS = "mongodb", "redis"
DATABASE = "zaqar"
"""Zaqar's default: the beginning of the names of its databases on MongoDB."""


class Address(msgspec.Struct, frozen=True):
    """A store of Zaqar's. `database` and `tls`, which has options of a MongoDB URI, are MongoDB's."""

    uri: str
    database: str = DATABASE
    tls: dict[str, str] = {}

    __repr__ = undisclosed

    @property
    def kind(self) -> str:
        return REDIS if self.uri.startswith(REDIS) else MONGODB


class Addresses(msgspec.Struct, frozen=True):
    """The stores without those of pools: one for queues, pools and flavors, one for subscriptions."""

    management: Address
    messages: Address


def addresses_of(given: str) -> Addresses:
    """The stores that `--from` names: by a URI, or by a zaqar.conf.

    Raises:
        StartRefused: It names none that can be read.
    """
    if "://" not in given:
        conf = read_zaqar_conf(Path(given))
        return Addresses(_of(conf, "management"), _of(conf, "message"))
    address = address_of(given)
    return Addresses(address, address)


def address_of(uri: str, *, database: str = "", tls: dict[str, str] | None = None) -> Address:
    """The store at a URI as Zaqar takes it. Of MongoDB the path names the database, unless `database` does.

    Raises:
        StartRefused: It is neither MongoDB's nor Redis'.
    """
    scheme, _, rest = uri.partition("://")
    if scheme in ("redis", "rediss"):
        return Address(uri)
    if scheme not in ("mongodb", "mongodb.fifo", "mongodb+srv"):
        raise StartRefused(
            f"{scheme}:// is no store that can be imported from: it must be mongodb:// or redis://"
        )
    try:
        path = urlsplit(uri).path.strip("/")
    except ValueError:
        path = ""
    scheme = scheme.removesuffix(".fifo")
    return Address(f"{scheme}://{rest}", database or path or DATABASE, tls or {})


def _of(conf: ZaqarConf, plane: str) -> Address:
    kind = conf.management_store if plane == "management" else conf.message_store
    section = f"drivers:{plane}_store:{kind.removesuffix('.fifo')}"
    if kind == REDIS:
        return address_of(conf.get(section, "uri", "redis://127.0.0.1:6379"))
    if not kind.startswith(MONGODB):
        raise StartRefused(
            f"[drivers] {plane}_store of {conf.path} is {kind}; only mongodb and redis can be imported from"
        )
    uri = conf.get(section, "uri", "mongodb://127.0.0.1:27017")
    return address_of(
        uri, database=conf.get(section, "database", DATABASE), tls=_tls(conf, section)
    )


def _tls(conf: ZaqarConf, section: str) -> dict[str, str]:
    names = {"ssl_ca_certs": "tlsCAFile", "ssl_certfile": "tlsCertificateKeyFile"}
    given = {ours: conf.get(section, name) for name, ours in names.items()}
    files = {
        name: str((conf.path.parent / text).absolute()) for name, text in given.items() if text
    }
    if conf.get(section, "ssl_cert_reqs") == "CERT_NONE":
        return files | {"tlsAllowInvalidCertificates": "true"}
    return files
