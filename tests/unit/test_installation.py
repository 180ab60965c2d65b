"""The installation's mark, and its ports on this host."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from zaqar_notify.delivery.installation import (
    announced,
    has_proof,
    installation_mark,
    is_own_delivery,
    is_own_listener,
)
from zaqar_notify.settings import Settings

MARK = installation_mark(Settings(webhook_secret="master"))
PORT = 45678

HERE = [
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET, "127.8.9.10"),
    (socket.AF_INET, "0.0.0.0"),
    (socket.AF_INET6, "::1"),
    (socket.AF_INET6, "::"),
    (socket.AF_INET6, "::ffff:127.0.0.1"),
    (socket.AF_INET6, "::ffff:0.0.0.0"),
]


def own_addresses() -> Iterator[tuple[socket.AddressFamily, str]]:
    """The addresses that this host shows to others."""
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((anywhere, 9))
            except OSError:
                continue
            yield family, probe.getsockname()[0]


def leads_to_us(family: socket.AddressFamily, address: str, port: int = PORT) -> bool:
    rest = (0, 0) if family == socket.AF_INET6 else ()
    return is_own_listener((address, port, *rest), family, MARK)


@pytest.mark.parametrize(("family", "address"), [*HERE, *own_addresses()])
def test_every_address_of_this_host_leads_to_an_announced_port(
    family: socket.AddressFamily, address: str
) -> None:
    with announced(PORT, MARK):
        assert leads_to_us(family, address)
        assert not leads_to_us(family, address, PORT + 1)

    assert not leads_to_us(family, address)


def test_an_address_elsewhere_with_the_same_port_is_not_ours() -> None:
    with announced(PORT, MARK):
        assert not leads_to_us(socket.AF_INET, "198.51.100.7")
        assert not leads_to_us(socket.AF_INET6, "2001:db8::7")


def test_another_installation_s_port_is_not_ours() -> None:
    with announced(PORT, installation_mark(Settings(webhook_secret="other"))):
        assert not leads_to_us(socket.AF_INET, "127.0.0.1")


def test_a_port_is_announced_by_any_process_of_the_host_until_it_dies() -> None:
    code = (
        "from zaqar_notify.delivery.installation import announced; import sys, time\n"
        f"with announced({PORT}, {MARK!r}): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert leads_to_us(socket.AF_INET, "127.0.0.1")

        process.kill()
        process.wait()

    assert not leads_to_us(socket.AF_INET, "127.0.0.1")


def test_a_port_may_be_announced_twice() -> None:
    with announced(PORT, MARK), announced(PORT, MARK):
        assert leads_to_us(socket.AF_INET, "127.0.0.1")


def test_the_mark_is_the_installation_s_and_tells_nothing_of_its_secret() -> None:
    assert installation_mark(Settings(webhook_secret="master")) == MARK
    assert installation_mark(Settings(webhook_secret="other")) != MARK
    assert len(installation_mark(Settings())) == len(MARK) == 32
    assert "master" not in MARK


@pytest.mark.parametrize("proof", [b"x-auth-token", b"authorization", b"url-signature"])
def test_a_marked_request_may_answer_for_itself(proof: bytes) -> None:
    marked = {b"zaqar-installation": MARK.encode()}

    assert is_own_delivery(marked, MARK)
    assert not has_proof(marked)
    assert has_proof(marked | {proof: b"x"})
    assert not is_own_delivery({b"zaqar-installation": b"\xff"}, MARK)
    assert not is_own_delivery({}, MARK)
