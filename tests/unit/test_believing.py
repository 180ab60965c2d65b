"""The callers that a process believes, by its settings and the addresses that it listens on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from zaqar_notify.cli.serving import listen
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.believing import with_authentication
from zaqar_notify.settings import Settings, load_settings


@pytest.fixture
def listeners(request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    with ExitStack() as open_ones:
        yield [open_ones.enter_context(listen(host, 0)) for host in request.param]


LOOPBACK = ["127.0.0.1", "127.0.0.2"]
WIDE = ["127.0.0.1", "0.0.0.0"]


@pytest.mark.parametrize(
    ("listeners", "settings", "auth"),
    [
        (LOOPBACK, {}, ("none",)),
        (["localhost"], {}, ("none",)),
        (WIDE, {}, ("token",)),
        (LOOPBACK, {"auth": "token"}, ("token",)),
        (WIDE, {"auth": "keystone, token"}, ("keystone", "token")),
        (LOOPBACK, {"trust_proxy": "true"}, ("none",)),
        (WIDE, {"auth": "none", "trust_proxy": "true"}, ("none",)),
    ],
    indirect=["listeners"],
)
def test_callers_are_believed_by_the_address(
    listeners: list[socket.socket], settings: dict[str, str], auth: tuple[str, ...]
) -> None:
    assert with_authentication(Settings(**settings), listeners).auth == auth


@pytest.mark.parametrize(
    ("listeners", "settings", "sentence"),
    [
        (WIDE, {"auth": "none"}, "ZAQAR_AUTH=none on 0.0.0.0 .* ZAQAR_TRUST_PROXY=true"),
        (WIDE, {"trust_proxy": "true"}, "ZAQAR_TRUST_PROXY is of no use with ZAQAR_AUTH=token"),
        (LOOPBACK, {"auth": "keystone", "trust_proxy": "true"}, "of no use with ZAQAR_AUTH=keyst"),
    ],
    indirect=["listeners"],
)
def test_a_start_that_would_believe_everybody_is_refused(
    listeners: list[socket.socket], settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(StartRefused, match=sentence):
        with_authentication(Settings(**settings), listeners)


@pytest.mark.parametrize("auth", ["none,token", "password", "token,none", "TOKEN"])
def test_other_kinds_are_refused_with_the_name_of_the_setting(auth: str) -> None:
    with pytest.raises(StartRefused, match="ZAQAR_AUTH="):
        load_settings({"ZAQAR_AUTH": auth})
