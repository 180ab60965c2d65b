"""`wait=N`: answered by the first change, and nothing is claimed for a client that hung up.

Deadlines here are long, because the tests show that no request waits for them.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from tests.api.conftest import CLIENT_ID, PROJECT, Api
from zaqar_notify.models import Claim, QueueRef
from zaqar_notify.storage.base import Watch

CLAIMS = "/v2/queues/q/claims"
MESSAGES = "/v2/queues/q/messages"
REF = QueueRef(PROJECT, "q")


class Waiters:
    """Counts the watches of the store that a request waits on."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = 0
        self._changed = asyncio.Condition()
        store = api.service.storage.messages
        opened = store.watch

        def watch(ref: QueueRef, *, exclusive: bool = False) -> Watch:
            return _CountedWatch(opened(ref, exclusive=exclusive), self)

        monkeypatch.setattr(store, "watch", watch)

    async def add(self, number: int) -> None:
        async with self._changed:
            self.open += number
            self._changed.notify_all()

    async def until(self, number: int) -> None:
        """Wait until so many wait."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: self.open == number)


class _CountedWatch(Watch):
    def __init__(self, watch: Watch, waiters: Waiters) -> None:
        self._watch = watch
        self._waiters = waiters

    async def changed(self, *, timeout_seconds: float) -> bool:
        await self._waiters.add(1)
        try:
            return await self._watch.changed(timeout_seconds=timeout_seconds)
        finally:
            await self._waiters.add(-1)

    def wake(self) -> None:
        self._watch.wake()

    def close(self) -> None:
        self._watch.close()


@pytest.fixture
def waiters(api: Api, monkeypatch: pytest.MonkeyPatch) -> Waiters:
    return Waiters(api, monkeypatch)


async def counts(api: Api) -> list[int]:
    """How often each message of the queue has been claimed."""
    page = await api.service.storage.messages.page(
        REF, marker=None, limit=20, now=api.service.clock.now(), include_claimed=True
    )
    return [message.claim_count for message in page.messages]


async def hang_up(api: Api, method: str, path: str, waiters: Waiters) -> None:
    """Ask, wait until the server waits, and close the connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nClient-ID: {CLIENT_ID}\r\n"
        f"X-Project-ID: {PROJECT}\r\n\r\n".encode()
    )
    await waiters.until(1)
    writer.close()
    await waiters.until(0)


async def test_a_waiting_claim_is_woken_by_a_post(api: Api, waiters: Waiters) -> None:
    started = time.monotonic()
    claiming = asyncio.create_task(api.post(f"{CLAIMS}?wait=20", {"ttl": 60}))
    await waiters.until(1)

    await api.post_bodies("q", "news")
    reply = await claiming

    assert reply.status == 201
    assert [message["body"] for message in reply.json["messages"]] == ["news"]
    assert time.monotonic() - started < 10


async def test_a_waiting_observer_is_woken_by_a_post(api: Api, waiters: Waiters) -> None:
    [marker] = await api.post_bodies("q", "old")
    query = f"?wait=20&echo=true&marker={marker}"
    listing = asyncio.create_task(api.get(f"{MESSAGES}{query}"))
    await waiters.until(1)

    await api.post_bodies("q", "news")
    reply = await listing

    assert [message["body"] for message in reply.json["messages"]] == ["news"]
    assert "wait=20" in reply.json["links"][0]["href"]


async def test_a_waiting_claim_is_woken_by_a_release(api: Api, waiters: Waiters) -> None:
    await api.post_bodies("q", 1)
    held = await api.post(CLAIMS)
    claiming = asyncio.create_task(api.post(f"{CLAIMS}?wait=20"))
    await waiters.until(1)

    await api.delete(held.headers["Location"])

    assert (await claiming).status == 201


async def test_what_is_there_is_given_without_waiting(api: Api, waiters: Waiters) -> None:
    await api.post_bodies("q", 1)

    page = await api.get(f"{MESSAGES}?wait=20&echo=true")
    claim = await api.post(f"{CLAIMS}?wait=20")

    assert len(page.json["messages"]) == 1
    assert claim.status == 201


async def test_a_wait_ends_with_nothing(api: Api, waiters: Waiters) -> None:
    listing = api.get(f"{MESSAGES}?wait=1")
    claiming = api.post(f"{CLAIMS}?wait=1")

    page, claim = await asyncio.gather(listing, claiming)

    assert page.json == {"messages": [], "links": []}
    assert (claim.status, claim.body) == (204, b"")
    assert waiters.open == 0


async def test_own_messages_do_not_end_an_observer_s_wait(api: Api, waiters: Waiters) -> None:
    listing = asyncio.create_task(api.get(f"{MESSAGES}?wait=20"))
    await waiters.until(1)

    await api.post_bodies("q", "mine")
    await waiters.until(1)
    await api.post(MESSAGES, {"messages": [{"body": "theirs"}]}, headers={"Client-ID": "0" * 32})

    assert [message["body"] for message in (await listing).json["messages"]] == ["theirs"]


async def test_each_of_several_messages_wakes_a_consumer(api: Api, waiters: Waiters) -> None:
    claiming = [asyncio.create_task(api.post(f"{CLAIMS}?wait=20&limit=1")) for _ in range(5)]
    await waiters.until(5)

    await api.post_bodies("q", *range(5))
    replies = await asyncio.gather(*claiming)

    bodies = [reply.json["messages"][0]["body"] for reply in replies]
    assert sorted(bodies) == list(range(5))


@pytest.mark.parametrize(("method", "path"), [("POST", CLAIMS), ("GET", MESSAGES)])
async def test_a_client_that_hangs_up_ends_its_wait_at_once(
    api: Api, waiters: Waiters, method: str, path: str
) -> None:
    started = time.monotonic()

    await hang_up(api, method, f"{path}?wait=20", waiters)

    assert time.monotonic() - started < 10


async def test_nothing_is_claimed_or_counted_for_clients_that_hung_up(
    api: Api, waiters: Waiters
) -> None:
    await api.put("/v2/queues/q")
    for _ in range(5):
        await hang_up(api, "POST", f"{CLAIMS}?wait=20", waiters)

    await api.post_bodies("q", 1)

    assert await counts(api) == [0]
    assert (await api.post(CLAIMS)).status == 201


async def test_a_first_look_that_finds_while_the_client_hangs_up_is_taken_back_uncounted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.post_bodies("q", 1)
    store = api.service.storage.claims
    create, release = store.create, store.release
    claimed, gone, released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def create_slowly(*args: object, **options: object) -> Claim | None:
        claimed.set()
        await gone.wait()
        return await create(*args, **options)  # type: ignore[arg-type]

    async def note_release(*args: object, **options: object) -> None:
        await release(*args, **options)  # type: ignore[arg-type]
        released.set()

    monkeypatch.setattr(store, "create", create_slowly)
    monkeypatch.setattr(store, "release", note_release)
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(
        f"POST {CLAIMS}?wait=20 HTTP/1.1\r\nHost: x\r\nClient-ID: {CLIENT_ID}\r\n"
        f"X-Project-ID: {PROJECT}\r\n\r\n".encode()
    )
    async with asyncio.timeout(10):
        await claimed.wait()
        writer.close()
        await writer.wait_closed()
        # The server learns of it from its socket; a request on another one comes after that.
        await api.get("/v2/ping")
        gone.set()
        await released.wait()

    assert await counts(api) == [0]


async def test_a_claim_made_while_the_client_hung_up_is_taken_back_uncounted(
    api: Api, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed, gone = asyncio.Event(), asyncio.Event()
    store = api.service.storage.claims
    create, release = store.create, store.release
    released = asyncio.Event()

    async def create_slowly(*args: object, **options: object) -> Claim | None:
        claim = await create(*args, **options)  # type: ignore[arg-type]
        if claim is not None:
            claimed.set()
            await gone.wait()
        return claim

    async def note_release(*args: object, **options: object) -> None:
        await release(*args, **options)  # type: ignore[arg-type]
        released.set()

    monkeypatch.setattr(store, "create", create_slowly)
    monkeypatch.setattr(store, "release", note_release)
    async with aiohttp.ClientSession() as session:
        asking = asyncio.create_task(
            session.post(
                f"{api.url}{CLAIMS}?wait=20",
                headers={"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT},
            )
        )
        await waiters.until(1)
        await api.post_bodies("q", 1)
        await claimed.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    # The server learns of it from its socket; a request on another one comes after that.
    await api.get("/v2/ping")
    gone.set()

    async with asyncio.timeout(10):
        await released.wait()
    assert await counts(api) == [0]
    monkeypatch.undo()
    assert (await api.post(CLAIMS)).status == 201


async def test_a_service_that_stops_ends_all_waits(api: Api, waiters: Waiters) -> None:
    waiting = [
        asyncio.create_task(api.post(f"{CLAIMS}?wait=20")),
        asyncio.create_task(api.get(f"{MESSAGES}?wait=20")),
    ]
    await waiters.until(2)

    api.service.storage.stop_waiting()
    replies = await asyncio.gather(*waiting)

    assert [reply.status for reply in replies] == [204, 200]


async def test_no_task_is_left_behind(api: Api, waiters: Waiters) -> None:
    await api.get("/v2/ping")
    before = asyncio.all_tasks()

    await api.post(f"{CLAIMS}?wait=1")
    await hang_up(api, "GET", f"{MESSAGES}?wait=20", waiters)
    await api.get("/v2/ping")

    assert not [task for task in asyncio.all_tasks() - before if "hung_up" in repr(task)]
    assert not [task for task in asyncio.all_tasks() - before if "changed" in repr(task)]
