"""Stopping, starting again, and refusing to start: a real process, asked by signal."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.service import STOP_SECONDS, Service, command, free_port, outside_environ
from zaqar_notify.operations.single import DATABASE, KEY_NAMES, KEYS

HEADERS = {"Client-ID": "0" * 32, "X-Project-ID": "demo"}
OTHER_CLIENT = HEADERS | {"Client-ID": "1" * 32}
LEASE_SECONDS = 2
ENVIRON = {"ZAQAR_DELIVERY_LEASE_SECONDS": str(LEASE_SECONDS), "ZAQAR_SHUTDOWN_SECONDS": "4"}
SIGNALS = pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
PATIENCE_SECONDS = 20
SOON_SECONDS = 3


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(tmp_path / "data", environ=ENVIRON)
    await asyncio.to_thread(service.start)
    yield service
    service.kill()
    assert "Traceback" not in service.log.read_text()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        yield session


def ask_to_stop(service: Service, signal_number: signal.Signals = signal.SIGTERM) -> None:
    assert service.process is not None
    service.process.send_signal(signal_number)


async def exit_code(service: Service) -> int:
    """The exit code, when the process ends in time."""
    assert service.process is not None
    return await asyncio.to_thread(service.process.wait, STOP_SECONDS)


class Begun:
    """A request whose head the service has read, and whose body it waits for."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._body = body

    @classmethod
    async def post(cls, service: Service, path: str, document: object) -> Begun:
        body = json.dumps(document).encode()
        head = f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n"
        reader, writer = await send(service, f"POST {path}", head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        return cls(reader, writer, body)

    async def send_body(self) -> None:
        self._writer.write(self._body)
        await self._writer.drain()

    async def answer(self) -> bytes:
        return await answer(self._reader, self._writer)


async def send(
    service: Service, request: str, head: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    headers = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    writer.write(f"{request} HTTP/1.1\r\nHost: service\r\n{headers}{head}\r\n".encode())
    await writer.drain()
    return reader, writer


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """All that the service sends until it closes the connection."""
    try:
        return await asyncio.wait_for(reader.read(), STOP_SECONDS)
    finally:
        writer.close()


class Hook:
    """A webhook that answers when `may_answer` is set."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.may_answer = asyncio.Event()
        self.got_one = asyncio.Semaphore(0)
        self.bodies: list[object] = []
        self.delivery_ids: list[str] = []

    async def next(self) -> None:
        """Wait until one more notification has come, answered or not."""
        await asyncio.wait_for(self.got_one.acquire(), PATIENCE_SECONDS)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/", self._notify)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            yield
        finally:
            self.may_answer.set()
            await runner.cleanup()

    async def _notify(self, request: web.Request) -> web.Response:
        self.bodies.append((await request.json())["body"])
        self.delivery_ids.append(request.headers["webhook-id"])
        self.got_one.release()
        await self.may_answer.wait()
        return web.Response(status=204)


def message(body: object) -> dict[str, object]:
    return {"messages": [{"body": body, "ttl": 3600}]}


async def post(session: aiohttp.ClientSession, service: Service, body: object) -> None:
    url = f"{service.url}/v2/queues/q/messages"
    async with session.post(url, json=message(body)) as answered:
        assert answered.status == 201


async def subscribe(session: aiohttp.ClientSession, service: Service, uri: str) -> None:
    url = f"{service.url}/v2/queues/q/subscriptions"
    async with session.post(url, json={"subscriber": uri, "ttl": 3600}) as answered:
        assert answered.status == 201


# Stopping


@SIGNALS
async def test_a_request_that_has_begun_is_answered_and_kept(
    service: Service, session: aiohttp.ClientSession, signal_number: signal.Signals
) -> None:
    begun = await Begun.post(service, "/v2/queues/q/messages", message("in flight"))

    ask_to_stop(service, signal_number)
    await begun.send_body()

    assert (await begun.answer()).startswith(b"HTTP/1.1 201 ")
    assert await exit_code(service) == 0
    await asyncio.to_thread(service.start)
    assert await all_bodies(session, service) == ["in flight"]


async def test_a_request_whose_body_takes_its_time_is_answered_and_kept(
    service: Service, session: aiohttp.ClientSession
) -> None:
    """The engine has nothing to finish and is done long before."""
    begun = await Begun.post(service, "/v2/queues/q/messages", message("in flight"))

    ask_to_stop(service)
    await asyncio.sleep(1)
    await begun.send_body()

    assert (await begun.answer()).startswith(b"HTTP/1.1 201 ")
    assert await exit_code(service) == 0


@SIGNALS
async def test_long_polls_end_at_once_with_what_there_is(
    service: Service, signal_number: signal.Signals
) -> None:
    page = await send(service, "GET /v2/queues/q/messages?wait=20")
    claim = await Begun.post(service, "/v2/queues/q/claims?wait=20", {"ttl": 60, "grace": 60})
    await claim.send_body()

    ask_to_stop(service, signal_number)

    async with asyncio.timeout(SOON_SECONDS):
        listed = await answer(*page)
        claimed = await claim.answer()
    assert listed.startswith(b"HTTP/1.1 200 ")
    assert b'"messages":[]' in listed.replace(b" ", b"")
    assert claimed.startswith(b"HTTP/1.1 204 ")
    assert await exit_code(service) == 0


@SIGNALS
async def test_exactly_what_was_acknowledged_under_load_is_there_after_a_stop(
    service: Service, session: aiohttp.ClientSession, signal_number: signal.Signals
) -> None:
    acknowledged: list[str] = []
    enough = asyncio.Event()

    async def produce(name: str) -> None:
        for number in range(100_000):
            body = f"{name}:{number}"
            try:
                await post(session, service, body)
            except aiohttp.ClientError:
                return
            acknowledged.append(body)
            if len(acknowledged) >= 200:
                enough.set()

    async with asyncio.TaskGroup() as producers:
        for number in range(8):
            producers.create_task(produce(f"p{number}"))
        await asyncio.wait_for(enough.wait(), PATIENCE_SECONDS)
        ask_to_stop(service, signal_number)
    code = await exit_code(service)

    await asyncio.to_thread(service.start)
    assert sorted(await all_bodies(session, service)) == sorted(acknowledged)
    assert code == 0


async def all_bodies(session: aiohttp.ClientSession, service: Service) -> list[str]:
    bodies: list[str] = []
    path = "/v2/queues/q/messages?limit=20&echo=true"
    while path:
        async with session.get(service.url + path) as answered:
            page = await answered.json()
        bodies += [found["body"] for found in page["messages"]]
        path = page["links"][0]["href"] if page["links"] else ""
    return bodies


@SIGNALS
async def test_a_delivery_in_flight_finishes_and_does_not_come_again(
    service: Service, session: aiohttp.ClientSession, signal_number: signal.Signals
) -> None:
    hook = Hook()
    async with hook.serving():
        await subscribe(session, service, hook.url)
        await post(session, service, "first")
        await hook.next()

        ask_to_stop(service, signal_number)
        hook.may_answer.set()
        assert await exit_code(service) == 0

        await asyncio.to_thread(service.start)
        await post(session, service, "second")
        await hook.next()
        await asyncio.sleep(LEASE_SECONDS + 0.5)  # By then it would have come again.
        assert hook.bodies == ["first", "second"]


async def test_a_delivery_that_can_not_finish_comes_again_after_the_start(
    service: Service, session: aiohttp.ClientSession
) -> None:
    hook = Hook()
    async with hook.serving():
        await subscribe(session, service, hook.url)
        await post(session, service, "first")
        await hook.next()

        ask_to_stop(service)
        assert await exit_code(service) == 0

        hook.may_answer.set()
        await asyncio.to_thread(service.start)
        await hook.next()
        assert hook.bodies == ["first", "first"]
        assert len(set(hook.delivery_ids)) == 1


async def test_after_a_kill_deliveries_go_on_at_once_and_consumers_keep_their_claims(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    environ = {"ZAQAR_DELIVERY_LEASE_SECONDS": "3600"}  # Nothing comes because a lease lapses.
    service = Service(tmp_path / "data", environ=environ)
    await asyncio.to_thread(service.start)
    hook = Hook()
    async with hook.serving():
        await subscribe(session, service, hook.url)
        for number in range(20):
            await post(session, service, number)
        claims = f"{service.url}/v2/queues/q/claims"
        async with session.post(claims, json={"ttl": 300, "grace": 60}) as answered:
            claim = answered.headers["Location"]
        await hook.next()

        service.kill()
        hook.may_answer.set()
        await asyncio.to_thread(service.start)

        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(set(hook.bodies)) < 20:
                await hook.next()
        async with session.get(service.url + claim) as answered:
            assert answered.status == 200
    assert await asyncio.to_thread(service.stop) == 0


async def test_a_client_that_never_finishes_its_request_does_not_hold_up_the_stop(
    service: Service,
) -> None:
    begun = await Begun.post(service, "/v2/queues/q/messages", message("never sent"))

    ask_to_stop(service)

    assert await exit_code(service) == 0
    await begun.answer()


# Starting again


async def test_a_second_start_finds_queues_messages_claims_and_subscriptions(
    service: Service, session: aiohttp.ClientSession
) -> None:
    queue = f"{service.url}/v2/queues/q"
    async with session.put(queue, json={"colour": "blue"}) as answered:
        assert answered.status == 201
    await subscribe(session, service, "queue:copies")
    await post(session, service, "claimed")
    await post(session, service, "free")
    async with session.post(f"{queue}/claims?limit=1", json={"ttl": 300}) as answered:
        claim = answered.headers["Location"]

    await asyncio.to_thread(service.restart)

    async with session.get(queue) as answered:
        assert (await answered.json())["colour"] == "blue"
    async with session.get(f"{queue}/messages", headers=OTHER_CLIENT) as answered:
        assert [found["body"] for found in (await answered.json())["messages"]] == ["free"]
    async with session.get(service.url + claim) as answered:
        assert [found["body"] for found in (await answered.json())["messages"]] == ["claimed"]
    async with session.get(f"{queue}/subscriptions") as answered:
        subscriptions = (await answered.json())["subscriptions"]
        assert [subscription["subscriber"] for subscription in subscriptions] == ["queue:copies"]


async def test_a_url_that_was_signed_before_a_restart_still_verifies(
    service: Service, session: aiohttp.ClientSession
) -> None:
    async with session.post(f"{service.url}/v2/queues/q/share", json={}) as answered:
        signed = await answered.json()
    headers = {
        "URL-Signature": signed["signature"],
        "URL-Expires": signed["expires"],
        "URL-Methods": ",".join(signed["methods"]),
        "URL-Paths": ",".join(signed["paths"]),
    }

    await asyncio.to_thread(service.restart)

    async with session.get(f"{service.url}/v2/queues/q/messages", headers=headers) as answered:
        assert answered.status == 200


# Refusing to start


def refusal(
    data: Path, *, port: int | None = None, environ: Mapping[str, str] | None = None
) -> str:
    """The output of a start that fails: one sentence, no traceback, and exit code 1."""
    ended = subprocess.run(
        command("up", "--port", str(port or free_port()), "--data", str(data)),
        env=outside_environ() | dict(environ or {}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    return ended.stderr.strip()


async def test_a_second_process_on_the_same_data_is_refused(
    service: Service, session: aiohttp.ClientSession
) -> None:
    sentence = await asyncio.to_thread(refusal, service.data)

    assert str(service.data) in sentence
    assert "in use" in sentence
    await post(session, service, "the first one goes on")


async def test_the_data_of_a_killed_process_is_free_for_the_next(service: Service) -> None:
    service.kill()

    other = Service(service.data)
    await asyncio.to_thread(other.start)

    assert await asyncio.to_thread(other.stop) == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ZAQAR_MAX_MESSAGE_TTL", "soon", "seconds"),
        ("ZAQAR_MAX_MESSAGES_POST_SIZE", "0", "bytes"),
        ("ZAQAR_DELIVERY_ALLOW", "everything", "Networks"),
        ("ZAQAR_LOG_LEVEL", "loud", "info"),
        ("ZAQAR_MAX_MESAGE_TTL", "60", "ZAQAR_MAX_MESSAGE_TTL"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    sentence = refusal(tmp_path / "data", environ={name: value})

    assert name in sentence
    assert said in sentence


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]

        sentence = refusal(tmp_path / "data", port=port)

    assert str(port) in sentence
    assert "in use" in sentence


@pytest.mark.parametrize(
    "content", [b"not a database" * 500, b"SQLite format 3\0" + b"\xff" * 8000]
)
def test_a_database_file_that_is_none_is_named_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / DATABASE).write_bytes(content)
    (data / KEYS).write_text("".join(f"{name}=0123\n" for name in KEY_NAMES))

    sentence = refusal(data)

    assert str(data / DATABASE) in sentence
    assert (data / DATABASE).read_bytes() == content


async def test_a_database_that_lost_its_end_is_named(
    service: Service, session: aiohttp.ClientSession
) -> None:
    await post(session, service, "x" * 100_000)
    assert await asyncio.to_thread(service.stop) == 0
    database = service.data / DATABASE
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 8192 * 4096])

    sentence = await asyncio.to_thread(refusal, service.data)

    assert str(database) in sentence
    assert "restore the last backup" in sentence


@pytest.mark.parametrize("content", [None, b"WEBHOOK_SECRET=0123\n", b"WEBHOOK_SECRET=\xff\n"])
async def test_no_new_keys_are_made_beside_a_database(
    service: Service, content: bytes | None
) -> None:
    assert await asyncio.to_thread(service.stop) == 0
    keys = service.data / KEYS
    keys.unlink() if content is None else keys.write_bytes(content)

    sentence = await asyncio.to_thread(refusal, service.data)

    assert f"{keys} " in sentence
    assert "restore it from the backup" in sentence
    assert (keys.read_bytes() if keys.exists() else None) == content


async def test_a_database_that_is_removed_while_it_runs_takes_no_posts_until_it_is_back(
    service: Service, session: aiohttp.ClientSession
) -> None:
    await post(session, service, "before")
    aside = service.data.with_name("aside")
    service.data.rename(aside)

    refused = await session.post(f"{service.url}/v2/queues/q/messages", json=message("lost"))
    ready = await session.get(f"{service.url}/readyz")

    assert (refused.status, ready.status) == (503, 503)
    assert "damaged or gone" in (await refused.json())["description"]
    assert "was removed while it was in use" in service.log.read_text()
    aside.rename(service.data)
    await post(session, service, "after")
    assert await all_bodies(session, service) == ["before", "after"]


async def test_keys_in_the_settings_need_no_file(service: Service) -> None:
    assert await asyncio.to_thread(service.stop) == 0
    (service.data / KEYS).unlink()
    environ = {"ZAQAR_WEBHOOK_SECRET": "0123", "ZAQAR_SIGNED_URL_SECRETS": "4567"}

    other = Service(service.data, environ=environ)
    await asyncio.to_thread(other.start)

    assert await asyncio.to_thread(other.stop) == 0
    assert not (service.data / KEYS).exists()


async def test_an_empty_database_in_the_place_of_a_lost_one_is_told(service: Service) -> None:
    assert await asyncio.to_thread(service.stop) == 0
    (service.data / DATABASE).unlink()

    other = Service(service.data)
    await asyncio.to_thread(other.start)

    assert await asyncio.to_thread(other.stop) == 0
    assert "action=database_made" in other.log.read_text()


def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("a file")

    assert str(data) in refusal(data)
