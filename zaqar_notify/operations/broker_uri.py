"""The URI of the broker: refused with one sentence when a client library would stumble over it.

No part of a URI is repeated in an error: a URI that can't be read may hold the password anywhere.
"""

from __future__ import annotations

import re
import ssl
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from zaqar_notify.errors import StartRefused
from zaqar_notify.models import undisclosed

SCHEMES = ("redis", "rediss", "amqp", "amqps")
SECURE = ("rediss", "amqps")

VERIFICATIONS = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS_PARAMETERS = ("ssl_cert_reqs", *TLS_FILES)

_NAMED = "ZAQAR_BROKER_URI"
_ESCAPES = "write @ as %40, / as %2F, # as %23, ? as %3F and : as %3A in a user name or password"
_DATABASE = re.compile(r"/{0,2}\d*")

TlsOptions: TypeAlias = dict[str, Any]


class BrokerUri(msgspec.Struct, frozen=True):
    """`uri` is without TLS parameters; `tls` has them as kombu's transport takes them, None without TLS."""

    uri: str
    tls: TlsOptions | None

    __repr__ = undisclosed

    @property
    def is_redis(self) -> bool:
        return self.uri.startswith(("redis:", "rediss:"))


def parse(text: str) -> BrokerUri:
    """Read the setting.

    Raises:
        StartRefused: It names no broker that a client could connect to.
    """
    scheme, separator, rest = text.partition("://")
    if scheme not in SCHEMES or not separator:
        raise _refused(
            f"names no broker that this release knows: it begins with one of {', '.join(SCHEMES)}, and ://"
        )
    if ";" in text:
        raise _refused("names several brokers: name one, or an address that fails over")
    if "#" in rest or rest.count("@") > 1 or "@" in rest.partition("/")[2]:
        raise _refused(f"has a character that ends the address: {_ESCAPES}")
    # With the semantics of HTTP, as kombu reads it.
    parts = urlsplit(f"http://{rest}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _refused(f"has a port that is no number from 0 to 65535: {_ESCAPES}") from None
    if not host or port == 0:
        raise _refused("names no host: as in redis://HOST:6379/0")
    if scheme.startswith("redis") and not _DATABASE.fullmatch(unquote(parts.path)):
        raise _refused("names no database: Redis numbers them, as in redis://HOST:6379/0")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = _tls(scheme, {key: given.pop(key) for key in list(given) if key.startswith("ssl_")})
    query = f"?{urlencode(given)}" if given else ""
    return BrokerUri(text.partition("?")[0] + query, tls)


def _tls(scheme: str, given: dict[str, str]) -> TlsOptions | None:
    """Certificates and host names are verified unless `ssl_cert_reqs` says otherwise."""
    if scheme not in SECURE:
        if given:
            raise _refused(f"has TLS parameters: they go with {' and '.join(SECURE)}")
        return None
    unknown = sorted(given.keys() - set(TLS_PARAMETERS))
    if unknown:
        raise _refused(f"has an unknown TLS parameter: known are {', '.join(TLS_PARAMETERS)}")
    verification = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if verification not in VERIFICATIONS:
        raise _refused(f"has an ssl_cert_reqs that is none of {', '.join(VERIFICATIONS)}")
    options: TlsOptions = {key: given[key] for key in TLS_FILES if key in given}
    options["ssl_cert_reqs"] = VERIFICATIONS[verification]
    is_verified = verification == "required"
    if scheme == "rediss":
        return options | {"ssl_check_hostname": is_verified}
    # py-amqp has shorter names, and takes the host's name from kombu for a name of None.
    shorter: TlsOptions = {key.removeprefix("ssl_"): value for key, value in options.items()}
    return shorter | ({"server_hostname": None} if is_verified else {})


def _refused(why: str) -> StartRefused:
    return StartRefused(f"{_NAMED} {why}")
