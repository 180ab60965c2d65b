"""The RSA key that signs SNS envelopes, and its self-signed certificate."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from zaqar_notify.models import undisclosed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEY_BITS = 2048
LIFE_DAYS = 20 * 365
_CLOCKS_APART = timedelta(days=1)
_NAME = "SimpleNotificationService-{}.pem"
"""The form of SNS's names; receivers ask that it ends with `.pem`."""
_DIGITS = 32


class SigningKey(msgspec.Struct, frozen=True):
    """A private key with its certificate, a PEM text. `name` is that of the certificate's file."""

    name: str
    certificate: bytes
    private: RSAPrivateKey

    __repr__ = undisclosed

    def sign(self, text: bytes, *, version: str) -> str:
        """The signature of a text, base64: of version 1 with SHA-1, of version 2 with SHA-256.

        Source: Amazon SNS Developer Guide, "Verifying the signatures of Amazon SNS messages".
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

        digest = hashes.SHA1() if version == "1" else hashes.SHA256()  # noqa: S303 - SNS's version 1
        return b64encode(self.private.sign(text, PKCS1v15(), digest)).decode()

    def private_bytes(self) -> bytes:
        """The private key, not encrypted."""
        from cryptography.hazmat.primitives import serialization as forms

        return self.private.private_bytes(
            forms.Encoding.DER, forms.PrivateFormat.PKCS8, forms.NoEncryption()
        )


def make_signing_key(now: datetime) -> SigningKey:
    """A new key with its certificate. It takes some tenths of a second."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    private = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "zaqar-notify")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + timedelta(days=LIFE_DAYS))
        .sign(private, hashes.SHA256())
    )
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    name = _NAME.format(digest[:_DIGITS])
    return SigningKey(name, certificate.public_bytes(Encoding.PEM), private)


def read_signing_key(name: str, certificate: bytes, private: bytes) -> SigningKey:
    """The key that `private_bytes` were made of."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    key = load_der_private_key(private, password=None)
    assert isinstance(key, RSAPrivateKey)  # noqa: S101 - we wrote it.
    return SigningKey(name, certificate, key)
