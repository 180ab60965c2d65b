"""URIs are shown without their secrets."""

from __future__ import annotations

import pytest

from zaqar_notify.rules.uris import MASK, hidden, masked


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:///var/lib/store.db", "sqlite:///var/lib/store.db"),
        ("mongodb://host:27017/db?replicaSet=rs", "mongodb://host:27017/db?replicaSet=rs"),
        ("mongodb://user:pass@a,b/db", f"mongodb://user:{MASK}@a,b/db"),
        ("mongodb://user:p@ss:w@rd@a/db", f"mongodb://user:{MASK}@a/db"),
        ("redis://:pass@host/1", f"redis://:{MASK}@host/1"),
        ("redis://:pa\nss@host/1", f"redis://:{MASK}@host/1"),
        (
            "mongodb://a/?tlsCertificateKeyFilePassword=x&replicaSet=rs",
            f"mongodb://a/?tlsCertificateKeyFilePassword={MASK}&replicaSet=rs",
        ),
        ("redis://a/0?password=x#y", f"redis://a/0?password={MASK}#y"),
        (
            "mongodb://a/?authMechanismProperties=AWS_SESSION_TOKEN:x&w=1",
            f"mongodb://a/?authMechanismProperties={MASK}&w=1",
        ),
    ],
)
def test_what_is_secret_is_masked(uri: str, shown: str) -> None:
    assert masked(uri) == shown
    assert masked(shown) == shown


def test_a_sentence_shows_neither_the_uri_nor_its_password() -> None:
    uri = "mongodb://user:pa:ss@host/db"

    assert (
        hidden(f"{uri} refuses user with pa:ss", uri) == f"{masked(uri)} refuses user with {MASK}"
    )
    assert hidden("the host is away", "mongodb://host/db") == "the host is away"
    assert hidden("a sentence", "mongodb://user:a@host") == "a sentence"
