"""Finding the addresses of names, with name servers that answer, fail and hang."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from sinks import names
from sinks.guard import AddressForbidden, AddressGuard
from sinks.names import MOST_OF_A_PROJECT, GuardedResolver
from tests.sinks.builders import delivery_to
from tests.sinks.conftest import LOOPBACK, webhook_sink
from tests.sinks.name_server import NameServer, serving_names
from tests.sinks.receiver import Receiver
from tests.workers.office import until
from zaqar_notify.models import Verdict
from zaqar_notify.settings import Settings

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.fixture
async def name_server() -> AsyncIterator[NameServer]:
    async with serving_names(well_example=["127.0.0.1"]) as server:
        yield server


@pytest.fixture
def resolver(name_server: NameServer) -> Iterator[GuardedResolver]:
    resolver = GuardedResolver(AddressGuard(allow=LOOPBACK), name_servers=[name_server.place])
    yield resolver
    resolver.close()


async def addresses(
    resolver: GuardedResolver, host: str = "well.example", *, project: str = "p"
) -> list[str]:
    found = await resolver.resolve(host, 80, project=project)
    return [str(destination[0]) for *_, destination in found]


def asking(
    resolver: GuardedResolver, *hosts: str, project: str = "p"
) -> list[asyncio.Task[list[str]]]:
    return [asyncio.create_task(addresses(resolver, host, project=project)) for host in hosts]


async def abandon(tasks: list[asyncio.Task[list[str]]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_name_has_addresses_of_both_families(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    name_server.addresses["both.example"] = ["127.0.0.1", "127.0.0.2", "::1"]

    found = await resolver.resolve("both.example", 8080, project="p")

    assert sorted((family, destination) for family, *_, destination in found) == [
        (socket.AF_INET, ("127.0.0.1", 8080)),
        (socket.AF_INET, ("127.0.0.2", 8080)),
        (socket.AF_INET6, ("::1", 8080, 0, 0)),
    ]


async def test_an_address_is_no_question(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    assert await addresses(resolver, "::1") == ["::1"]
    with pytest.raises(AddressForbidden):
        await addresses(resolver, "10.0.0.1")

    assert name_server.questions == []


async def test_a_name_is_refused_altogether_for_one_forbidden_address(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    name_server.addresses["mixed.example"] = ["127.0.0.1", "10.0.0.1"]

    for _ in range(2):
        with pytest.raises(AddressForbidden):
            await addresses(resolver, "mixed.example")


def names_in_hosts_file() -> list[str]:
    """IPv6 names are left out: the system's resolver and c-ares differ about those without addresses."""
    lines = [line.partition("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines()]
    return [name for address, *names in filter(None, lines) if "." in address for name in names]


async def test_the_hosts_file_is_read_as_by_everything_else_on_the_host(
    name_server: NameServer,
) -> None:
    resolver = GuardedResolver(AddressGuard(allow=EVERYTHING), name_servers=[name_server.place])
    for name in [*names_in_hosts_file(), "localhost", "LOCALHOST"]:
        system = {info[4][0] for info in socket.getaddrinfo(name, 80, family=socket.AF_INET)}
        assert system <= set(await addresses(resolver, name))

    resolver.close()
    assert name_server.questions == []


async def test_short_names_are_searched_for_as_this_host_is_configured(
    resolver: GuardedResolver, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALDOMAIN", "svc.example")
    monkeypatch.setenv("RES_OPTIONS", "ndots:2")
    name_server.addresses["hook.svc.example"] = ["127.0.0.1"]
    name_server.addresses["a.b.svc.example"] = ["127.0.0.1"]
    name_server.addresses["a.b.c"] = ["127.0.0.1"]

    for host in ("hook", "a.b", "a.b.c"):
        assert await addresses(resolver, host) == ["127.0.0.1"]

    assert name_server.questions == ["hook.svc.example", "a.b.svc.example", "a.b.c"]


async def test_a_name_that_does_not_exist_and_servers_that_fail_are_told_apart(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    with pytest.raises(socket.gaierror, match="no such name"):
        await addresses(resolver, "absent.example")

    name_server.addresses["empty.example"] = []
    with pytest.raises(socket.gaierror, match="no such name"):
        await addresses(resolver, "empty.example")

    name_server.fails = True
    with pytest.raises(socket.gaierror, match="no answer"):
        await addresses(resolver)


async def test_a_name_is_asked_for_once_however_many_want_it(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    name_server.may_answer = False
    waiting = asking(resolver, *["well.example"] * 20)
    await until(lambda: bool(name_server.questions))

    name_server.answer_all()

    await asyncio.gather(*waiting)
    await addresses(resolver, project="another")
    assert name_server.questions == ["well.example"]


async def test_an_answer_about_a_name_is_used_for_a_while_only(
    resolver: GuardedResolver, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "KEPT_SECONDS", 0.0)
    await addresses(resolver)

    name_server.addresses["well.example"] = ["127.0.0.9"]

    async with asyncio.timeout(5):
        while await addresses(resolver) == ["127.0.0.1"]:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


async def test_a_name_that_was_not_found_is_asked_for_again(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    with pytest.raises(socket.gaierror):
        await addresses(resolver, "late.example")

    name_server.addresses["late.example"] = ["127.0.0.1"]

    assert await addresses(resolver, "late.example")


async def test_a_delivery_that_gives_up_waiting_for_a_name_leaves_it_to_the_others(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    name_server.may_answer = False
    first, second = asking(resolver, "well.example", "well.example")
    await until(lambda: bool(name_server.questions))

    await abandon([first])
    name_server.answer_all()

    assert await second


async def test_who_asks_just_as_the_last_one_gave_up_gets_an_answer(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    name_server.may_answer = False
    [first] = asking(resolver, "well.example")
    await until(lambda: bool(name_server.questions))

    first.cancel()
    [second] = asking(resolver, "well.example")
    await asyncio.sleep(0)
    name_server.answer_all()

    assert await second == ["127.0.0.1"]


async def test_names_beyond_the_bound_are_asked_for_each_time(
    resolver: GuardedResolver, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MOST_KEPT", 1)
    name_server.addresses["second.example"] = ["127.0.0.1"]

    for _ in range(2):
        await addresses(resolver)
        await addresses(resolver, "second.example")

    assert name_server.questions == ["well.example", "second.example", "second.example"]


async def test_a_name_server_that_hangs_is_given_up_after_a_while(
    resolver: GuardedResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "ANSWER_SECONDS", 0.05)

    with pytest.raises(socket.gaierror, match="no answer"):
        await addresses(resolver, "hanging.example")


async def test_a_project_s_questions_are_bounded_and_hold_up_no_other_project(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    hanging = asking(resolver, *(f"hanging{number}.example" for number in range(200)))
    await until(lambda: len(set(name_server.questions)) == MOST_OF_A_PROJECT)
    [late] = asking(resolver, "well.example")
    await asyncio.sleep(0)

    assert await addresses(resolver, project="another") == ["127.0.0.1"]

    assert not any(task.done() for task in hanging)
    assert len(set(name_server.questions)) == MOST_OF_A_PROJECT + 1
    await abandon([*hanging, late])


async def test_a_turn_is_free_again_when_its_question_has_ended(
    resolver: GuardedResolver, name_server: NameServer
) -> None:
    hosts = [f"host{number}.example" for number in range(3 * MOST_OF_A_PROJECT)]
    for host in hosts:
        name_server.addresses[host] = ["127.0.0.1"]

    found = await asyncio.gather(*asking(resolver, *hosts))

    assert found == [["127.0.0.1"]] * len(hosts)
    gc.collect()
    assert not resolver._turns
    assert not resolver._under_way


async def test_a_question_that_fails_when_nobody_waits_is_no_error(
    resolver: GuardedResolver, name_server: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    name_server.may_answer = False
    name_server.fails = True
    waiting = asking(resolver, "well.example")
    await until(lambda: bool(name_server.questions))
    await abandon(waiting)

    name_server.answer_all()
    with pytest.raises(socket.gaierror):
        await addresses(resolver, "other.example")
    gc.collect()

    assert not caplog.records


async def test_answers_that_c_ares_keeps_are_bounded_and_no_question_is_lost_by_it(
    resolver: GuardedResolver, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MOST_QUESTIONS", 2)
    hosts = [f"host{number}.example" for number in range(10)]
    name_server.addresses |= {host: ["127.0.0.1"] for host in hosts}
    name_server.may_answer = False
    waiting = asking(resolver, *hosts)
    await until(lambda: len(set(name_server.questions)) == len(hosts))
    assert len(resolver._channels) == len(hosts) / 2

    name_server.answer_all()

    assert await asyncio.gather(*waiting) == [["127.0.0.1"]] * len(hosts)
    waiting.clear()

    def only_one_is_left() -> bool:
        gc.collect()
        return len(resolver._channels) == 1

    await until(only_one_is_left)


async def test_a_resolver_that_is_closed_leaves_nothing_behind(
    name_server: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    resolver = GuardedResolver(AddressGuard(allow=LOOPBACK), name_servers=[name_server.place])
    waiting = asking(resolver, "hanging.example", "hanging2.example")
    await until(lambda: len(set(name_server.questions)) == 2)

    resolver.close()

    await asyncio.wait(waiting)
    gc.collect()
    assert not caplog.records


async def test_deliveries_to_names_that_hang_hold_up_none_of_another_project(
    name_server: NameServer, receiver: Receiver
) -> None:
    settings = Settings(delivery_allow=LOOPBACK, delivery_connect_timeout_seconds=30)
    async with webhook_sink(settings, name_servers=[name_server.place]) as webhook:
        hanging = [
            asyncio.create_task(
                webhook.deliver(delivery_to(f"http://hanging{number}.example/", project="bad"))
            )
            for number in range(settings.delivery_concurrency)
        ]
        await until(lambda: len(set(name_server.questions)) == MOST_OF_A_PROJECT)

        outcomes = [
            await webhook.deliver(delivery_to(receiver.url(host="well.example"), project="good"))
            for _ in range(3)
        ]

        assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
