"""The certificate of a process that serves HTTPS: read at the start, and again when it was renewed."""

from __future__ import annotations

import logging
import signal
from datetime import UTC, datetime
from pathlib import Path
from ssl import (
    OP_NO_COMPRESSION,
    OP_NO_RENEGOTIATION,
    PROTOCOL_TLS_SERVER,
    SSLContext,
    SSLError,
    TLSVersion,
)
from typing import NoReturn

from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import Settings, variable

RELOAD = signal.SIGHUP
"""The signal that asks a process to read the files again."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption. TLS 1.3 has nothing else."""

logger = logging.getLogger(__name__)


class Certificate:
    """The pair of files that the settings name, as new connections use it."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            StartRefused: The pair can't be used; the sentence names the setting.
        """
        self._cert = Path(settings.tls_cert_file)
        self._key = Path(settings.tls_key_file)
        self._context = self._read()

    def current(self) -> SSLContext:
        return self._context

    def reload(self) -> None:
        """Read the pair again. Open connections go on; a pair that can't be used changes nothing."""
        facts = {"path": str(self._cert)}
        try:
            self._context = self._read()
        except StartRefused as refusal:
            logger.error(
                "The new certificate can't be used; the former one is used on",
                extra={"action": "certificate_refused", **facts, "error": str(refusal)},
            )
        else:
            facts["expires_at"] = self.expires_at.isoformat()
            logger.info("Certificate read", extra={"action": "certificate_read", **facts})

    def _read(self) -> SSLContext:
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.minimum_version = TLSVersion.TLSv1_2
        context.options |= OP_NO_COMPRESSION | OP_NO_RENEGOTIATION
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        cert, _ = _content(self._cert, "tls_cert_file"), _content(self._key, "tls_key_file")
        expires_at = _end_of(cert, self._cert)
        try:
            context.load_cert_chain(self._cert, self._key, password=self._ask)
        except SSLError as error:
            raise self._sentence(error) from error
        self.expires_at = expires_at
        if expires_at < datetime.now(UTC):
            logger.error(
                "The certificate has expired: clients refuse it",
                extra={
                    "action": "certificate_expired",
                    "path": str(self._cert),
                    "expires_at": expires_at.isoformat(),
                },
            )
        return context

    def _ask(self) -> NoReturn:
        raise _refusal(
            "tls_key_file",
            self._key,
            "is encrypted, and the service has no password; `openssl pkey` writes it without one",
        )

    def _sentence(self, error: SSLError) -> StartRefused:
        if error.reason == "KEY_VALUES_MISMATCH":
            return _refusal("tls_key_file", self._key, f"is not the key of {self._cert}")
        if error.reason == "EE_KEY_TOO_SMALL":
            return _refusal("tls_cert_file", self._cert, "has a key that is too short")
        return _refusal(
            "tls_key_file", self._key, f"has no private key in PEM form ({error.reason})"
        )


def certificate_of(settings: Settings) -> Certificate | None:
    """
    Raises:
        StartRefused: The pair can't be used; the sentence names the setting.
    """
    return Certificate(settings) if settings.tls_cert_file else None


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refusal(name, path, f"can't be read: {error.strerror or error}") from error


def _end_of(cert: bytes, path: Path) -> datetime:
    """The instant at which the first certificate of the file expires."""
    # Imported late: processes without a certificate of their own do without it.
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(cert)[0].not_valid_after_utc
    except ValueError as error:
        raise _refusal("tls_cert_file", path, "has no certificate in PEM form") from error


def _refusal(name: str, path: Path, sentence: str) -> StartRefused:
    return StartRefused(f"{variable(name)}: {path} {sentence}")
