"""Webhooks through a real HTTP proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sinks.guard import AddressGuard
from sinks.proxy import diagnose_proxy
from sinks.webhook import WebhookSink, proxy_of
from tests.programs import program
from tests.service import free_port
from tests.sinks.builders import delivery_to
from tests.sinks.certificates import contexts
from tests.sinks.conftest import LOOPBACK, webhook_sink
from tests.sinks.name_server import serving_names
from tests.sinks.receiver import receiving
from zaqar_notify.findings import Level
from zaqar_notify.models import Verdict
from zaqar_notify.settings import Settings

USER = "user:pass"
ASKED = ": CONNECT "
"""In the log's lines about requests; each line begins with its level, of which one is CONNECT."""


@asynccontextmanager
async def proxying(directory: Path, *lines: str) -> AsyncIterator[int]:
    """A tinyproxy; yields its port."""
    port = free_port()
    conf = directory / f"{port}.conf"
    log = directory / "proxy.log"
    conf.write_text(
        "\n".join(
            [f"Port {port}", "Listen 127.0.0.1", f'LogFile "{log}"', "LogLevel Connect", *lines]
        )
    )
    command = [program("tinyproxy"), "-d", "-c", str(conf)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        await until_open(port)
        yield port
    finally:
        process.kill()
        await process.wait()


async def until_open(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def through(port: int, *, user: str = "", **more: object) -> Settings:
    at = f"{user}@" if user else ""
    values = {"delivery_allow": LOOPBACK, "delivery_timeout_seconds": 5} | more
    return Settings.model_validate(values | {"delivery_proxy": f"http://{at}127.0.0.1:{port}"})


async def test_deliveries_go_through_the_proxy_over_kept_tunnels(tmp_path: Path) -> None:
    async with (
        proxying(tmp_path) as port,
        receiving() as receiver,
        webhook_sink(through(port)) as webhook,
    ):
        outcomes = [await webhook.deliver(delivery_to(receiver.url())) for _ in range(3)]

    assert [outcome.verdict for outcome in outcomes] == [Verdict.DELIVERED] * 3
    assert receiver.connections == 1
    assert receiver.requests[0].headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "proxy-authorization" not in receiver.requests[0].headers
    assert ASKED in (tmp_path / "proxy.log").read_text()


async def test_tls_is_spoken_with_the_receiver_inside_the_tunnel(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with proxying(tmp_path) as port, receiving(tls=server) as receiver:
        trusting = WebhookSink(through(port), AddressGuard.of(through(port)), tls=client)
        outcome = await trusting.deliver(delivery_to(receiver.url()))
        await trusting.close()
        async with webhook_sink(through(port)) as webhook:
            refused = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.verdict is Verdict.DELIVERED
    assert refused.verdict is Verdict.TRY_LATER
    assert "not trusted" in refused.detail


async def test_the_proxy_is_told_the_address_that_was_judged_and_no_name(tmp_path: Path) -> None:
    async with (
        proxying(tmp_path) as port,
        receiving() as receiver,
        serving_names(hook_example=["127.0.0.1"]) as names,
        webhook_sink(through(port), name_servers=[names.place]) as webhook,
    ):
        outcome = await webhook.deliver(delivery_to(receiver.url(host="hook.example")))

    assert outcome.verdict is Verdict.DELIVERED
    assert receiver.requests[0].headers["host"] == f"hook.example:{receiver.port}"
    assert "hook.example" not in (tmp_path / "proxy.log").read_text()


async def test_a_forbidden_address_is_refused_before_the_proxy_is_asked(tmp_path: Path) -> None:
    async with proxying(tmp_path) as port, receiving() as receiver:
        settings = through(port, delivery_allow=())
        async with webhook_sink(settings) as webhook:
            outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.verdict is Verdict.REFUSED
    assert not receiver.connections
    assert ASKED not in (tmp_path / "proxy.log").read_text()


async def test_a_proxy_that_wants_credentials_gets_them(tmp_path: Path) -> None:
    async with proxying(tmp_path, "BasicAuth user pass") as port, receiving() as receiver:
        async with webhook_sink(through(port, user=USER)) as webhook:
            delivered = await webhook.deliver(delivery_to(receiver.url()))
        async with webhook_sink(through(port)) as webhook:
            without = await webhook.deliver(delivery_to(receiver.url()))
            troubles = webhook.troubles

    assert delivered.verdict is Verdict.DELIVERED
    assert without.verdict is Verdict.POSTPONED
    assert troubles == ("the proxy can't be used: it wants other credentials (HTTP 407)",)


async def test_a_proxy_that_is_away_spends_no_attempt(receiver_url: str) -> None:
    settings = through(free_port())
    async with webhook_sink(settings) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver_url))
    proxy = proxy_of(settings)
    assert proxy is not None
    finding = await diagnose_proxy(proxy)

    assert outcome.verdict is Verdict.POSTPONED
    assert outcome.retry_after_seconds
    assert finding.level is Level.PROBLEM


@pytest.fixture
def receiver_url() -> str:
    return f"http://127.0.0.1:{free_port()}/hook"


async def test_a_receiver_that_the_proxy_does_not_reach_is_tried_again(
    tmp_path: Path, receiver_url: str
) -> None:
    async with proxying(tmp_path) as port, webhook_sink(through(port)) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver_url))

    assert outcome.verdict is Verdict.TRY_LATER
    assert outcome.detail.startswith("the proxy does not connect: HTTP 5")


async def test_excepted_networks_are_reached_without_the_proxy(tmp_path: Path) -> None:
    settings = through(free_port(), delivery_proxy_except=LOOPBACK)
    async with receiving() as receiver, webhook_sink(settings) as webhook:
        outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.verdict is Verdict.DELIVERED


@pytest.mark.parametrize(
    "said",
    [b"", b"hello\r\n\r\n", b"HTTP/1.1 2", b"x" * 20_000, b"HTTP/1.1 200 OK\r\n\r\nearly"],
)
async def test_a_proxy_that_speaks_no_http_fails_no_delivery_for_good(
    said: bytes, receiver_url: str
) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        settings = through(server.sockets[0].getsockname()[1])
        async with webhook_sink(settings) as webhook:
            outcome = await webhook.deliver(delivery_to(receiver_url))

    assert outcome.verdict in {Verdict.POSTPONED, Verdict.TRY_LATER}


@pytest.mark.parametrize(
    "uri",
    [
        "https://proxy.example:3128",
        "proxy.example:3128",
        "http://proxy.example",
        "http://:3128",
        "http://proxy.example:3128/path",
        "http://a%3Ab:c@proxy.example:3128",
        "http://proxy.example:99999",
    ],
)
def test_an_address_that_is_no_proxy_stops_the_start(uri: str) -> None:
    with pytest.raises(ValueError, match="delivery_proxy"):
        Settings.model_validate({"delivery_proxy": uri})
