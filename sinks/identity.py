"""A subscription's own certificates: the one that its webhooks show, and the authorities that they trust.

The option is `_tls`, with PEM text in `certificate`, `key` and `ca`.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, undisclosed

TLS = "_tls"
PRIVATE = ("key",)
"""The fields that are never shown."""

_ASCII = r"^[\x00-\x7f]+$"
_CERTIFICATES: JsonObject = {
    "type": "string",
    "pattern": _ASCII,
    "not": {"pattern": "PRIVATE KEY"},  # It would be shown.
    "must": "be certificates as PEM text, without a private key",
}
SCHEMA: JsonObject = {
    "type": ["object", "null"],
    "must": "be an object with certificate and key, or ca, or all three",
    "properties": {
        "certificate": _CERTIFICATES,
        "key": {"type": "string", "pattern": _ASCII, "must": "be a private key as PEM text"},
        "ca": _CERTIFICATES,
    },
    "additionalProperties": False,
    "dependentRequired": {"certificate": ["key"], "key": ["certificate"]},
    "minProperties": 1,
}


class Identity(msgspec.Struct, frozen=True):
    """PEM texts. Without a certificate none is shown; without `ca` the system's authorities are trusted."""

    certificate: str = ""
    key: str = ""
    ca: str = ""

    __repr__ = undisclosed


def identity_of(options: JsonObject) -> Identity | None:
    """The identity that the options ask for. They were checked when they came."""
    asked = options.get(TLS)
    return msgspec.convert(asked, Identity) if asked else None


def check_identity(options: JsonObject) -> None:
    """Refuse certificates and keys that can't be used.

    Raises:
        ValidationFailed: Says which of them, and why.
    """
    asked = identity_of(options)
    if asked is not None:
        _context(asked)


@lru_cache(maxsize=256)
def context_of(identity: Identity) -> ssl.SSLContext:
    """Raises ValidationFailed."""
    return _context(identity)


def _context(identity: Identity) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=identity.ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise ValidationFailed(f"options: {TLS} ca has no certificate that can be read") from error
    context.set_alpn_protocols(["http/1.1"])
    if identity.certificate:
        try:
            with _as_file(f"{identity.certificate}\n{identity.key}") as path:
                # Without a password OpenSSL would ask for one at the terminal.
                context.load_cert_chain(path, password=b"")
        except (ssl.SSLError, ValueError) as error:
            raise ValidationFailed(
                f"options: {TLS} certificate and key must be PEM text, fit together, and the key must "
                "have no passphrase"
            ) from error
    return context


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A path under which OpenSSL reads the text: in memory where the system can, as a key should not lie on a disk."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("certificate"), "wb") as file:
            file.write(text.encode())
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        yield file.name
