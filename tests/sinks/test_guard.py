"""Which addresses a delivery may reach, and that no connection gets around that."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

import pytest
from aiohappyeyeballs import AddrInfoType

from sinks import guard as guard_module
from sinks.guard import AddressGuard, GuardedResolver
from tests.sinks.builders import delivery_to
from tests.sinks.conftest import LOOPBACK, webhook_sink
from tests.sinks.receiver import Receiver, answer, receiving
from tests.workers.office import until
from zaqar_notify.addresses import is_address
from zaqar_notify.installation import announced, installation_mark
from zaqar_notify.models import Verdict
from zaqar_notify.settings import Settings

LOOK_UP = guard_module._look_up
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.2",
        "localhost",
        "LOCALHOST",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::127.0.0.1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
    ],
)
async def test_no_spelling_of_a_private_address_is_connected_to(
    receiver: Receiver, host: str
) -> None:
    async with webhook_sink(Settings()) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver.url(host=host)))

    assert outcome.verdict is Verdict.REFUSED
    assert "ZAQAR_DELIVERY_ALLOW" in outcome.detail
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "host", ["2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0", "[fe80::1%25lo]"]
)
async def test_numeric_hosts_in_old_forms_are_no_urls(receiver: Receiver, host: str) -> None:
    async with webhook_sink(Settings()) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver.url(host=host)))

    assert outcome.verdict is not Verdict.DELIVERED
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_every_spelling_is_delivered_to_once_allowed(receiver: Receiver, host: str) -> None:
    async with webhook_sink(Settings(delivery_allow=LOOPBACK)) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver.url(host=host)))

    assert outcome.verdict is Verdict.DELIVERED


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"],
)
async def test_no_address_of_this_host_leads_to_our_own_listeners(
    receiver: Receiver, host: str
) -> None:
    settings = Settings(delivery_allow=EVERYTHING, webhook_secret="master")
    async with webhook_sink(settings) as webhook:
        with announced(receiver.port, installation_mark(settings)):
            outcome = await webhook.deliver(delivery_to(receiver.url(host=host)))

    assert outcome.verdict is Verdict.REFUSED
    assert "this service itself" in outcome.detail
    assert receiver.connections == 0


@pytest.mark.parametrize("answers", [["127.0.0.1", "8.8.8.8"], ["8.8.8.8", "::1"]])
async def test_a_name_is_refused_altogether_for_one_address_of_our_own_listener(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, answers: list[str]
) -> None:
    _resolve_every_name_to(monkeypatch, answers)
    settings = Settings(delivery_allow=EVERYTHING)
    async with webhook_sink(settings) as webhook:
        with announced(receiver.port, installation_mark(settings)):
            outcome = await webhook.deliver(delivery_to(receiver.url(host="mixed.example")))

    assert outcome.verdict is Verdict.REFUSED
    assert receiver.connections == 0


async def test_other_ports_of_this_host_are_delivered_to_once_allowed(receiver: Receiver) -> None:
    settings = Settings(delivery_allow=LOOPBACK)
    async with webhook_sink(settings) as webhook:
        with announced(receiver.port + 1, installation_mark(settings)):
            outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.verdict is Verdict.DELIVERED


async def test_a_denied_address_is_refused_although_it_is_allowed(receiver: Receiver) -> None:
    settings = Settings(delivery_allow=LOOPBACK, delivery_deny=(ip_network("127.0.0.1/32"),))
    async with webhook_sink(settings) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.verdict is Verdict.REFUSED
    assert receiver.connections == 0


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        (["127.0.0.1", "10.0.0.1"], Verdict.REFUSED),
        (["10.0.0.1", "127.0.0.1"], Verdict.REFUSED),
        (["127.0.0.1", "fe80::1"], Verdict.REFUSED),
        (["127.0.0.1", "::ffff:10.0.0.1"], Verdict.REFUSED),
        (["127.0.0.1", "::1"], Verdict.DELIVERED),
        (["::1", "127.0.0.1"], Verdict.DELIVERED),
    ],
)
async def test_a_name_is_refused_altogether_for_one_forbidden_address(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, answers: list[str], verdict: Verdict
) -> None:
    _resolve_every_name_to(monkeypatch, answers)
    async with webhook_sink(Settings(delivery_allow=LOOPBACK)) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver.url(host="mixed.example")))

    assert outcome.verdict is verdict
    assert receiver.connections == (verdict is Verdict.DELIVERED)


async def test_the_socket_factory_has_the_last_word(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the resolver let a private address through, no socket is made for it."""
    monkeypatch.setattr("sinks.http.GuardedResolver", _CredulousResolver)
    async with webhook_sink(Settings()) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver.url(host="fooled.example")))

    assert outcome.verdict is Verdict.REFUSED
    assert receiver.connections == 0


async def test_a_redirect_to_a_private_address_leads_nowhere() -> None:
    settings = Settings(delivery_allow=(ip_network("127.0.0.1/32"),))
    async with (
        receiving(host="127.0.0.1") as public,
        receiving(host="127.0.0.2") as private,
        webhook_sink(settings) as webhook,
    ):
        public.behaviour = answer(307, Location=private.url(host="127.0.0.2"))
        outcome = await webhook.deliver(delivery_to(public.url()))

    assert outcome.verdict is Verdict.TRY_LATER
    assert private.connections == 0


async def test_an_address_found_later_in_the_race_is_judged_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of several addresses, each is connected to only through a socket that was judged."""
    judged: list[str] = []
    monkeypatch.setattr(AddressGuard, "check", lambda _, host: judged.append(host))
    _resolve_every_name_to(monkeypatch, ["127.0.0.3", "127.0.0.4"])
    async with webhook_sink(Settings(delivery_allow=LOOPBACK)) as webhook:
        await webhook.deliver(delivery_to("http://many.example:1/"))

    by_resolver, by_socket_factory = judged[:2], judged[2:]
    assert by_resolver == ["127.0.0.3", "127.0.0.4"]
    assert set(by_socket_factory) == {"127.0.0.3", "127.0.0.4"}


class _CredulousResolver(GuardedResolver):
    async def resolve(self, host: str, port: int) -> Sequence[AddrInfoType]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]


def _resolve_every_name_to(monkeypatch: pytest.MonkeyPatch, addresses: Sequence[str]) -> None:
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *, type: int) -> list[object]:  # noqa: A002
        return [info for address in addresses for info in resolve(address, port, type=type)]

    monkeypatch.setattr("sinks.guard.socket.getaddrinfo", getaddrinfo)


async def test_names_whose_servers_hang_do_not_hold_up_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go = threading.Event()
    look_up = guard_module._look_up

    def hang_for_some(host: str, port: int) -> Sequence[AddrInfoType]:
        if host.startswith("hanging"):
            let_go.wait()
        return look_up("127.0.0.1", port)

    monkeypatch.setattr(guard_module, "_look_up", hang_for_some)
    tries = Settings().delivery_concurrency
    resolver = GuardedResolver(AddressGuard(allow=LOOPBACK), lookups=tries)
    hanging = [
        asyncio.create_task(resolver.resolve(f"hanging{number}", 80)) for number in range(tries - 1)
    ]
    try:
        async with asyncio.timeout(10):
            assert await resolver.resolve("well", 80)
    finally:
        let_go.set()
        await asyncio.gather(*hanging)
        resolver.close()


class _NameServer:
    """Answers every name with loopback, and counts the questions. Nobody asks it for addresses."""

    def __init__(self) -> None:
        self.questions: list[str] = []
        self.fails = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def look_up(self, host: str, port: int) -> Sequence[AddrInfoType]:
        if is_address(host):
            return LOOK_UP(host, port)
        self.questions.append(host)
        self.may_answer.wait()
        if self.fails:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> _NameServer:
    server = _NameServer()
    monkeypatch.setattr(guard_module, "_look_up", server.look_up)
    return server


@pytest.fixture
def resolver() -> Iterator[GuardedResolver]:
    resolver = GuardedResolver(AddressGuard(allow=LOOPBACK), lookups=4)
    yield resolver
    resolver.close()


async def test_a_name_is_asked_for_once_however_many_want_it(
    resolver: GuardedResolver, name_server: _NameServer
) -> None:
    name_server.may_answer.clear()
    waiting = [asyncio.create_task(resolver.resolve("many", 80)) for _ in range(20)]
    await asyncio.sleep(0)

    name_server.may_answer.set()

    await asyncio.gather(*waiting)
    await resolver.resolve("many", 80)
    assert name_server.questions == ["many"]


async def test_an_answer_about_a_name_is_used_for_a_while_only(
    resolver: GuardedResolver, name_server: _NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "_NAME_SECONDS", 0.0)

    await resolver.resolve("moved", 80)
    async with asyncio.timeout(5):
        while name_server.questions == ["moved"]:
            await resolver.resolve("moved", 80)


async def test_a_name_that_was_not_found_is_asked_for_again(
    resolver: GuardedResolver, name_server: _NameServer
) -> None:
    name_server.fails = True
    with pytest.raises(socket.gaierror):
        await resolver.resolve("late", 80)

    name_server.fails = False

    assert await resolver.resolve("late", 80)


async def test_who_gives_up_waiting_for_a_name_takes_it_from_nobody(
    resolver: GuardedResolver, name_server: _NameServer
) -> None:
    name_server.may_answer.clear()
    first, second = (asyncio.create_task(resolver.resolve("shared", 80)) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()
    name_server.may_answer.set()

    assert await second
    assert name_server.questions == ["shared"]


async def test_names_beyond_the_bound_are_asked_for_each_time(
    resolver: GuardedResolver, name_server: _NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "_NAMES_KEPT", 1)

    for _ in range(2):
        await resolver.resolve("first", 80)
        await resolver.resolve("second", 80)

    assert name_server.questions == ["first", "second", "second"]


async def test_addresses_do_not_wait_for_names(
    resolver: GuardedResolver, name_server: _NameServer
) -> None:
    name_server.may_answer.clear()
    hanging = [asyncio.create_task(resolver.resolve(f"hanging{number}", 80)) for number in range(4)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(10):
            [(family, *_, destination)] = await resolver.resolve("::1", 80)
    finally:
        name_server.may_answer.set()
        await asyncio.gather(*hanging)

    assert (family, destination[:2]) == (socket.AF_INET6, ("::1", 80))


async def test_a_question_that_nobody_waits_for_any_more_is_not_asked(
    resolver: GuardedResolver, name_server: _NameServer
) -> None:
    name_server.may_answer.clear()
    names = [f"name{number}" for number in range(10)]
    asking = [asyncio.create_task(resolver.resolve(name, 80)) for name in names]
    await until(lambda: len(name_server.questions) == 4)

    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    name_server.may_answer.set()

    assert await resolver.resolve("name9", 80)
    assert name_server.questions == [*names[:4], "name9"]


@pytest.mark.parametrize("kept", [0, 10])
async def test_a_question_that_fails_when_nobody_waits_is_no_error(
    resolver: GuardedResolver,
    name_server: _NameServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kept: int,
) -> None:
    monkeypatch.setattr(guard_module, "_NAMES_KEPT", kept)
    name_server.fails = True
    name_server.may_answer.clear()
    asking = asyncio.create_task(resolver.resolve("gone", 80))
    await until(lambda: bool(name_server.questions))
    asking.cancel()
    await asyncio.wait((asking,))

    name_server.may_answer.set()
    with pytest.raises(socket.gaierror):
        await resolver.resolve("gone", 80)
    gc.collect()

    assert not caplog.records
