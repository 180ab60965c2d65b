"""The pair of files for HTTPS: which pairs are refused, and with which sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.sinks.certificates import made
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.certificate import certificate_of
from zaqar_notify.settings import load_settings


def with_pem(pem: Path) -> dict[str, str]:
    return {"ZAQAR_TLS_CERT_FILE": str(pem), "ZAQAR_TLS_KEY_FILE": str(pem)}


REFUSALS: Mapping[str, tuple[Callable[[Path], Mapping[str, str]], str]] = {
    "no key": (lambda pem: {"ZAQAR_TLS_CERT_FILE": str(pem)}, "ZAQAR_TLS_KEY_FILE"),
    "no certificate": (lambda pem: {"ZAQAR_TLS_KEY_FILE": str(pem)}, "ZAQAR_TLS_CERT_FILE"),
    "absent": (lambda pem: with_pem(pem.with_name("absent")), "No such file"),
    "a directory": (lambda pem: with_pem(pem.parent), "Is a directory"),
    "no PEM": (lambda pem: with_pem(_file(pem, b"hello")), "has no certificate"),
    "not text": (lambda pem: with_pem(_file(pem, b"\xff\x00" * 9)), "has no certificate"),
    "no private key": (
        lambda pem: with_pem(pem) | {"ZAQAR_TLS_KEY_FILE": str(_file(pem, b"hello"))},
        "has no private key",
    ),
    "another key": (
        lambda pem: with_pem(pem) | {"ZAQAR_TLS_KEY_FILE": str(made(pem.parent, "another"))},
        "is not the key of",
    ),
    "encrypted": (
        lambda pem: with_pem(pem) | {"ZAQAR_TLS_KEY_FILE": str(_encrypted(pem))},
        "is encrypted",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_pair_that_can_not_be_used_is_refused(kind: str, tmp_path: Path) -> None:
    environ, expected = REFUSALS[kind]

    with pytest.raises(StartRefused) as refused:
        certificate_of(load_settings(environ(made(tmp_path, "service"))))

    sentence = str(refused.value)
    assert "ZAQAR_TLS_" in sentence
    assert expected in sentence


def _file(beside: Path, content: bytes) -> Path:
    path = beside.with_name("other.pem")
    path.write_bytes(content)
    return path


def _encrypted(pem: Path) -> Path:
    key = serialization.load_pem_private_key(pem.read_bytes(), None)
    form = serialization.PrivateFormat.PKCS8
    hidden = serialization.BestAvailableEncryption(b"password")
    return _file(pem, key.private_bytes(serialization.Encoding.PEM, form, hidden))
