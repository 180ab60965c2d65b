"""A process takes no more requests than it can answer: the rest is refused at once, and can be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from api.answers import Answer
from api.errors import answer_to
from api.in_flight import LargeBodies
from api.requests import LARGE_BODY_BYTES, Call
from api.resources import UNGUARDED, Operation, Resource
from api.resources import Reply as Documented
from api.surfaces import Surface
from api.zaqar.admission import admit
from tests.api.added import add_surface
from tests.api.conftest import PROJECT, Api, Reply, StartApi
from tests.samples import Samples
from tests.workers.office import until
from zaqar_notify.auth import Caller
from zaqar_notify.service import Service

BODY = b"[" + b" " * 99_998 + b"]"
PATH = "/held"


class ByHeader:
    """Believes the project that the request names."""

    async def authenticate(self, request: Call) -> Caller:
        return Caller(request.header(b"x-project-id"))


class Held:
    """Requests that are answered when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.released = asyncio.Event()
        self.api: Api | None = None
        self._asking: list[asyncio.Task[Reply]] = []

    async def answer(self, service: Service, call: Call) -> Answer:
        await call.body(1_000_000)
        self.begun += 1
        await self.released.wait()
        return Answer(200)

    async def ask(self, api: Api, project: str, count: int, body: bytes | None = None) -> None:
        """Begin so many requests of the project, and wait until they are being answered."""
        before = self.begun
        headers = {"X-Project-ID": project}
        for _ in range(count):
            asking = api.call("POST", PATH, body=body, headers=headers)
            self._asking.append(asyncio.create_task(asking))
        await until(lambda: self.begun == before + count)

    async def release(self) -> list[int]:
        """Let all be answered; their statuses."""
        self.released.set()
        return [reply.status for reply in await asyncio.gather(*self._asking)]


@pytest.fixture
async def held(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    held = Held()
    operation = Operation(held.answer, UNGUARDED, "Wait", {200: Documented("Done")})
    resources = (Resource(PATH, {"POST": operation, "GET": operation}),)
    add_surface(monkeypatch, Surface(PATH, resources, ByHeader(), admit, answer_to))
    yield held
    held.released.set()


async def test_a_project_has_three_quarters_and_leaves_room_for_the_next(
    start_api: StartApi, held: Held
) -> None:
    api = await start_api(max_requests=8)
    await held.ask(api, "p1", 6)

    refused = await api.get("/v2/queues", headers={"X-Project-ID": "p1"})
    other = await api.get("/v2/queues", headers={"X-Project-ID": "p2"})

    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert "repeat" in refused.json["description"]
    assert other.status == 200
    assert await held.release() == [200] * 6
    assert (await api.get("/v2/queues", headers={"X-Project-ID": "p1"})).status == 200


async def test_past_the_limit_every_project_is_refused_and_probes_go_on(
    start_api: StartApi, held: Held
) -> None:
    api = await start_api(max_requests=4)
    for project in ("p1", "p2", "p3", "p4"):
        await held.ask(api, project, 1)

    assert (await api.get("/v2/queues", headers={"X-Project-ID": "p5"})).status == 503
    assert (await api.get("/healthz")).status == 204
    assert (await api.get("/readyz")).status == 200
    samples = Samples((await api.get("/metrics")).body.decode())
    assert samples("requests_in_flight") == 4
    assert samples("overloads_total", reason="requests") == 1
    assert await held.release() == [200] * 4


async def test_bodies_of_requests_being_answered_have_a_limit(
    start_api: StartApi, held: Held
) -> None:
    api = await start_api(max_body_bytes=4 * len(BODY))
    await held.ask(api, "p1", 3, BODY)

    refused = await api.call("POST", PATH, body=BODY, headers={"X-Project-ID": "p1"})
    await held.ask(api, "p2", 1, BODY)
    also_refused = await api.call("POST", PATH, body=BODY, headers={"X-Project-ID": "p3"})

    assert [refused.status, also_refused.status] == [503, 503]
    assert (await api.get("/v2/queues")).status == 200
    assert api.service.metrics.overloads["bodies"] == 2
    assert await held.release() == [200] * 4
    assert (await api.call("POST", PATH, body=BODY)).status == 200


async def test_long_polls_that_wait_leave_room_and_all_are_answered(
    start_api: StartApi,
) -> None:
    api = await start_api(max_requests=4)
    polls = []
    for _ in range(12):
        polls.append(asyncio.create_task(api.get("/v2/queues/q/messages?echo=true&wait=20")))
        await until(lambda: len(polls) == waiting(api))

    await api.post_bodies("q", 1)

    pages = [(await poll).json["messages"] for poll in polls]
    assert [len(page) for page in pages] == [1] * 12
    assert api.service.metrics.overloads["requests"] == 0


def waiting(api: Api) -> int:
    """Requests that are begun and not answered, and do not count."""
    begun = [each for each in api.connections if each.cycle and not each.cycle.response_complete]
    return len(begun) - api.service.metrics.in_flight()


REFUSED: dict[str, Callable[[Api], Awaitable[object]]] = {
    "unknown project": lambda api: api.get("/v2/queues", headers={"X-Project-ID": None}),
    "no method": lambda api: api.call("PATCH", "/v2/queues/q/messages"),
    "forged": lambda api: api.get("/v2/queues", headers={"URL-Signature": "x"}),
    "bad body": lambda api: api.post("/v2/queues/q/messages", body=b"{"),
    "open": lambda api: api.get("/"),
    "page": lambda api: api.get("/v2/queues/q/messages?wait=0"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_nothing_is_left_counted(api: Api, kind: str) -> None:
    await REFUSED[kind](api)

    assert api.service.metrics.in_flight() == 0


async def test_a_client_that_hangs_up_is_not_left_counted(api: Api) -> None:
    polling = asyncio.create_task(api.get("/v2/queues/q/messages?wait=20"))
    await until(lambda: waiting(api) == 1)
    polling.cancel()
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nX-Project-ID: p1\r\n")
    writer.write(b"Client-ID: 3381af922b9e11e3b19171861300734c\r\nContent-Length: 9\r\n\r\n{")
    await until(lambda: api.service.metrics.in_flight() == 1)

    writer.close()

    await until(lambda: api.service.metrics.in_flight() == 0)


async def test_large_bodies_are_read_one_in_a_round_and_the_projects_take_turns() -> None:
    large = LargeBodies()
    begun: list[str] = []
    rounds = 0

    async def others() -> None:
        nonlocal rounds
        while len(begun) < 6:
            rounds += 1
            await asyncio.sleep(0)

    async def read(project: str) -> None:
        await large.turn(project)
        begun.append(project)
        # Others went on since the one before.
        assert rounds >= len(begun)

    beside = asyncio.create_task(others())
    await asyncio.gather(*(read(project) for project in ("a", "a", "a", "a", "b", "b")))
    await beside

    assert begun == ["a", "b", "a", "b", "a", "a"]


async def test_a_request_with_a_large_body_waits_for_its_turn(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []

    async def turn(_: LargeBodies, project: str) -> None:
        turns.append(project)

    monkeypatch.setattr(LargeBodies, "turn", turn)
    api = await start_api()
    for size in (LARGE_BODY_BYTES // 2, 2 * LARGE_BODY_BYTES):
        body = {"messages": [{"body": "x" * size}]}
        assert (await api.post("/v2/queues/q/messages", body)).status == 201

    assert turns == [PROJECT]


async def test_a_large_body_is_not_read_when_its_client_hung_up_before_its_turn(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting_for_turn, turns = asyncio.Event(), asyncio.Event()

    async def turn(_: LargeBodies, project: str) -> None:
        waiting_for_turn.set()
        await turns.wait()

    monkeypatch.setattr(LargeBodies, "turn", turn)
    body = b'{"messages": [{"body": "%b"}]}' % (b"x" * 2 * LARGE_BODY_BYTES)
    head = (
        "POST /v2/queues/q/messages HTTP/1.1\r\nHost: x\r\nX-Project-ID: p1\r\n"
        f"Client-ID: 3381af922b9e11e3b19171861300734c\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head.encode() + body)
    await waiting_for_turn.wait()

    writer.close()
    await until(lambda: not api.connections)
    turns.set()
    await until(lambda: api.service.metrics.in_flight() == 0)

    assert (await api.get("/v2/queues/q/messages?echo=true")).json["messages"] == []
