"""Which addresses a delivery may reach, and that no connection gets around that."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from aiohappyeyeballs import AddrInfoType

from sinks.guard import AddressGuard
from sinks.names import GuardedResolver
from sinks.webhook import WebhookKind
from tests.sinks.builders import delivery_to
from tests.sinks.conftest import LOOPBACK, webhook_sink
from tests.sinks.name_server import serving_names
from tests.sinks.receiver import Receiver, answer, receiving
from zaqar_notify.delivery.installation import announced, installation_mark
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Verdict
from zaqar_notify.settings import Settings

PORT = 45679
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
    receiver: Receiver, answers: list[str]
) -> None:
    settings = Settings(delivery_allow=EVERYTHING)
    async with (
        serving_names(mixed_example=answers) as server,
        webhook_sink(settings, name_servers=[server.place]) as webhook,
    ):
        with announced(receiver.port, installation_mark(settings)):
            outcome = await webhook.deliver(delivery_to(receiver.url(host="mixed.example")))

    assert outcome.verdict is Verdict.REFUSED
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_where_loopback_is_forbidden_no_answer_tells_of_its_listeners(host: str) -> None:
    settings = Settings(webhook_secret="master")

    def answer(port: int) -> str:
        try:
            WebhookKind().check(f"http://{host}:{port}/", settings)
        except ValidationFailed as error:
            return str(error)
        return "taken"

    with announced(PORT, installation_mark(settings)):
        assert answer(PORT) == answer(PORT + 1)


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
    receiver: Receiver, answers: list[str], verdict: Verdict
) -> None:
    async with (
        serving_names(mixed_example=answers) as server,
        webhook_sink(Settings(delivery_allow=LOOPBACK), name_servers=[server.place]) as webhook,
    ):
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
    settings = Settings(delivery_allow=LOOPBACK)
    async with (
        serving_names(many_example=["127.0.0.3", "127.0.0.4"]) as server,
        webhook_sink(settings, name_servers=[server.place]) as webhook,
    ):
        await webhook.deliver(delivery_to("http://many.example:1/"))

    by_resolver, by_socket_factory = judged[:2], judged[2:]
    assert set(by_resolver) == {"127.0.0.3", "127.0.0.4"}
    assert set(by_socket_factory) == {"127.0.0.3", "127.0.0.4"}


class _CredulousResolver(GuardedResolver):
    async def resolve(self, host: str, port: int, *, project: str) -> Sequence[AddrInfoType]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]
