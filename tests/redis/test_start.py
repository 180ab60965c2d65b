"""URIs of stores on Redis that a start refuses, with the reason."""

from __future__ import annotations

import re

import pytest

from zaqar_notify.errors import StartRefused
from zaqar_notify.storage.redis.connection import place_of
from zaqar_notify.storage.registry import open_storage

WRONG = {
    "redis://host/0?prefex=a": "the option prefex",
    "redis://host/0?prefix=": "can't be the prefix",
    "redis://host/0?prefix=a{b": "can't be the prefix",
    "redis://host/0?tags=0": "tags=0",
    "redis://host/0?tags=many": "tags=many",
    "redis://host/0?ssl_ca_certs=/ca.pem": "write rediss://",
}


@pytest.mark.parametrize("uri", WRONG)
def test_a_uri_with_an_option_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(StartRefused, match=re.escape(WRONG[uri])):
        place_of(uri)


def test_options_of_ours_are_not_the_librarys() -> None:
    place = place_of("rediss://user:secret@host:1/2?prefix=a&tags=4&ssl_cert_reqs=none")

    assert place == ("rediss://user:secret@host:1/2?ssl_cert_reqs=none", "a", 4)


async def test_a_redis_that_is_not_there_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zaqar_notify.storage.redis.connection.PATIENCE_SECONDS", 0.0)

    with pytest.raises(StartRefused, match="gives no answer") as refused:
        await open_storage("redis://user:secret@127.0.0.1:1/0")

    assert "secret" not in str(refused.value)
