"""Subscriptions of a WebSocket: what is posted comes as frames, in order, and survives an interruption."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from api.push.feeding import Feeder
from api.push.subscribing import MOST_SENDING
from api.sockets import Socket
from tests.api.conftest import CLIENT_ID, OTHER_CLIENT_ID, Api
from tests.push.conftest import Client, Whole
from tests.push.raw import PING, TEXT, raw
from zaqar_notify.delivery.wills import read_will
from zaqar_notify.models import Message, QueueRef
from zaqar_notify.storage.internal import WILLS_REF

SUBSCRIPTION = b"""{"action": "subscription_create", "headers": {"Client-ID": "%b", "X-Project-ID": "p1"},
 "body": {"queue_name": "q"}}"""

LISTING = b"""{"action": "message_list", "headers": {"Client-ID": "%b", "X-Project-ID": "p1"},
 "body": {"queue_name": "large", "echo": true, "limit": 20}}"""


@pytest.fixture
async def served(whole: Whole) -> AsyncIterator[Api]:
    async with whole.running() as api:
        yield api


async def subscribed(client: Client, queue: str = "q", **fields: Any) -> str:
    reply = await client.ask("subscription_create", queue_name=queue, **fields)
    assert reply.status == 201, reply
    assert reply.body["message"] == f"Subscription {queue} created."
    subscription_id: str = reply.body["subscription_id"]
    return subscription_id


async def bodies(client: Client, count: int) -> list[Any]:
    return [(await client.frame())["body"] for _ in range(count)]


async def proved(client: Client, api: Api, count: int) -> None:
    """Until the server knows that so many have arrived. The client answers pings while it reads."""
    await client.ask("queue_list")
    await _until(lambda: api.service.metrics.sockets.notifications == count)


@pytest.mark.parametrize("is_binary", [False, True])
async def test_a_notification_has_exactly_zaqar_s_keys(
    whole: Whole, served: Api, is_binary: bool
) -> None:
    client = await whole.connect(served)
    await subscribed(client, is_binary=is_binary)

    await served.post("/v2/queues/q/messages", {"messages": [{"body": {"a": [1]}, "ttl": 300}]})

    received = await client.socket.receive(timeout=10)
    assert (received.type.name == "BINARY") == is_binary
    frame = Client.read(received)
    assert frame == {
        "ttl": 300,
        "body": {"a": [1]},
        "Message_Type": "Notification",
        "queue_name": "q",
    }


async def test_notifications_come_in_order_and_leave_nothing_behind(
    whole: Whole, served: Api
) -> None:
    client = await whole.connect(served)
    subscription_id = await subscribed(client)

    for number in range(60):
        await served.post_bodies("q", number)

    assert await bodies(client, 60) == list(range(60))
    await proved(client, served, 60)
    [store] = served.service.storage.pools.values()
    assert await store.heads.count_internal(prefix=f"pushed.{subscription_id}") == 0


async def test_one_socket_subscribes_to_several_queues_and_answers_beside(
    whole: Whole, served: Api
) -> None:
    client = await whole.connect(served)
    await subscribed(client, "q")
    await subscribed(client, "r", is_binary=True)

    await served.post_bodies("r", "to r")
    first = await client.frame()
    await served.post_bodies("q", "to q")
    second = await client.frame()

    assert (first["queue_name"], second["queue_name"]) == ("r", "q")
    assert (await client.ask("queue_get", queue_name="q")).status == 200


async def test_a_second_subscription_of_one_socket_is_refused(whole: Whole, served: Api) -> None:
    client = await whole.connect(served)
    await subscribed(client)

    again = await client.ask("subscription_create", queue_name="q")

    assert (again.status, again.body) == (409, "Subscription q not created.")
    await served.post_bodies("q", 1)
    assert await bodies(client, 1) == [1]


async def test_a_socket_is_confirmed_at_once(whole: Whole) -> None:
    settings = {
        "require_confirmation": True,
        "signed_url_secrets": "secret",
        "public_url": "https://example.org",
    }
    async with whole.running(**settings) as api:
        client = await whole.connect(api)
        await subscribed(client)

        await api.post_bodies("q", 1)

        assert await bodies(client, 1) == [1]


async def test_a_client_that_comes_back_gets_what_it_missed(whole: Whole, served: Api) -> None:
    first = await whole.connect(served)
    subscription_id = await subscribed(first)
    await served.post_bodies("q", 0)
    assert await bodies(first, 1) == [0]
    await proved(first, served, 1)
    await first.socket.close()

    await served.post_bodies("q", 1, 2)
    await served.post_bodies("q", 3)
    dashed = "3381af92-2b9e-11e3-b191-71861300734c"
    assert dashed.replace("-", "") == CLIENT_ID
    second = await whole.connect(served, dashed)

    assert await subscribed(second) == subscription_id
    assert await bodies(second, 3) == [1, 2, 3]


async def test_another_client_is_another_subscriber(whole: Whole, served: Api) -> None:
    one, other = await whole.connect(served), await whole.connect(served, OTHER_CLIENT_ID)

    assert await subscribed(one) != await subscribed(other)

    await served.post_bodies("q", 1)
    assert [await bodies(one, 1), await bodies(other, 1)] == [[1], [1]]


async def test_the_subscription_ends_when_its_client_does_not_come_back(whole: Whole) -> None:
    async with whole.running(websocket_grace_seconds=1) as api:
        client = await whole.connect(api)
        await subscribed(client)
        await client.socket.close()
        await api.post_bodies("q", "missed")

        await _until_gone(api)
        back = await whole.connect(api)
        await subscribed(back)
        await api.post_bodies("q", "new")

        assert await bodies(back, 1) == ["new"]


async def test_the_subscription_of_a_living_socket_outlives_the_grace(whole: Whole) -> None:
    async with whole.running(websocket_grace_seconds=1) as api:
        client = await whole.connect(api)
        await subscribed(client)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await client.socket.receive()

        await api.post_bodies("q", 1)

        assert await bodies(client, 1) == [1]


async def test_a_process_replaces_its_will_and_a_socket_that_is_gone_stands_in_a_last_one(
    whole: Whole,
) -> None:
    async with whole.running(websocket_grace_seconds=2) as api:
        client = await whole.connect(api)
        await subscribed(client)
        [first] = await _wills(api)

        [second] = await _wills_without(api, first)
        await client.socket.close()
        await _wills_without(api, second)

        await _until_gone(api)


async def test_a_client_that_came_back_is_not_ended_by_the_will_of_its_former_connection(
    whole: Whole,
) -> None:
    async with whole.running(websocket_grace_seconds=1) as api:
        first = await whole.connect(api)
        subscription_id = await subscribed(first)
        await first.socket.close()
        second = await whole.connect(api)
        assert await subscribed(second) == subscription_id
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.5):
                await second.socket.receive()

        await api.post_bodies("q", 1)

        assert await bodies(second, 1) == [1]


async def test_a_stop_loses_nothing(whole: Whole) -> None:
    async with whole.running() as api:
        client = await whole.connect(api)
        subscription_id = await subscribed(client)
        await client.socket.close()
        await api.post_bodies("q", 1, 2)

    async with whole.running() as api:
        await api.post_bodies("q", 3)
        client = await whole.connect(api)

        assert await subscribed(client) == subscription_id
        assert await bodies(client, 3) == [1, 2, 3]


async def test_a_notification_that_no_pong_proves_comes_again(whole: Whole, served: Api) -> None:
    async with raw(served) as silent:
        silent.send(TEXT, SUBSCRIPTION % CLIENT_ID.encode())
        assert await silent.status() == 201
        await served.post_bodies("q", 1)
        _, payload = await silent.receive()
        assert b'"body": 1' in payload
        assert (await silent.receive())[0] == PING

    client = await whole.connect(served)
    await subscribed(client)

    assert await bodies(client, 1) == [1]


async def test_a_new_connection_of_the_client_takes_the_subscription_over(
    whole: Whole, served: Api
) -> None:
    first, second = await whole.connect(served), await whole.connect(served)
    subscription_id = await subscribed(first)

    assert await subscribed(second) == subscription_id
    await served.post_bodies("q", 1)

    assert await bodies(second, 1) == [1]
    assert (await first.end())[0] == 4009


async def test_a_deleted_subscription_sends_nothing_more(whole: Whole, served: Api) -> None:
    client = await whole.connect(served)
    subscription_id = await subscribed(client)

    await client.ask("subscription_delete", queue_name="q", subscription_id=subscription_id)
    await served.post_bodies("q", "unseen")
    renewed = await subscribed(client)
    await served.post_bodies("q", "seen")

    assert renewed != subscription_id
    assert await bodies(client, 1) == ["seen"]


async def test_a_client_that_does_not_read_holds_up_no_other_and_loses_nothing(
    whole: Whole,
) -> None:
    async with whole.running(websocket_ping_seconds=1) as api, raw(api) as lazy:
        lazy.send(TEXT, SUBSCRIPTION % OTHER_CLIENT_ID.encode())
        assert await lazy.status() == 201
        lazy.stop_reading()
        reader = await whole.connect(api)
        await subscribed(reader)
        reading = asyncio.create_task(bodies(reader, 30))

        for number in range(30):
            await api.post_bodies("q", f"{number} {'x' * 50_000}")

        assert [int(body.split()[0]) for body in await reading] == list(range(30))
        await reader.socket.close()
        await _until(lambda: api.service.metrics.sockets.open == 0)
        again = await whole.connect(api, OTHER_CLIENT_ID)
        await subscribed(again)
        missed = [int(body.split()[0]) for body in await bodies(again, 30)]
        assert missed == list(range(30))


async def test_few_pages_of_notifications_wait_in_memory_for_a_client_that_does_not_read(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: Counter[str] = Counter()
    is_full = asyncio.Event()
    read, pause = Feeder._page, Socket.pause_writing

    async def counted(feeder: Feeder) -> Sequence[Message]:
        page = await read(feeder)
        pages[feeder._held.subscriber] += bool(page)
        return page

    def paused(socket: Socket) -> None:
        pause(socket)
        is_full.set()

    monkeypatch.setattr(Feeder, "_page", counted)
    monkeypatch.setattr(Socket, "pause_writing", paused)
    queues = [f"q{number}" for number in range(2 * MOST_SENDING)]
    async with whole.running() as api, raw(api) as lazy:
        reader = await whole.connect(api)
        for queue in queues:
            lazy.send(TEXT, SUBSCRIPTION.replace(b'"q"', b'"%b"' % queue.encode()) % b"lazy")
            assert await lazy.status() == 201
            await subscribed(reader, queue)
        for _ in range(20):
            await api.post_bodies("large", "x" * 250_000)
        lazy.stop_reading()
        lazy.send(TEXT, LISTING % CLIENT_ID.encode())
        await is_full.wait()

        for queue in queues:
            await api.post_bodies(queue, 1)
        await bodies(reader, len(queues))

        await _until(lambda: pages["websocket:lazy"] >= MOST_SENDING)
        assert pages["websocket:lazy"] == MOST_SENDING


async def test_only_a_socket_makes_such_a_subscription(whole: Whole, served: Api) -> None:
    client = await whole.connect(served)
    subscription_id = await subscribed(client)
    path = f"/v2/queues/q/subscriptions/{subscription_id}"

    made = await served.post("/v2/queues/r/subscriptions", {"subscriber": f"websocket:{CLIENT_ID}"})
    framed = await client.ask("subscription_create", queue_name="r", subscriber="websocket:me")
    options = await served.patch(path, {"options": {}})
    ttl = await served.patch(path, {"ttl": 600})
    shown = await served.get(path)

    assert [made.status, framed.status, options.status, ttl.status] == [400, 400, 400, 204]
    assert (shown.json["subscriber"], shown.json["ttl"]) == (f"websocket:{CLIENT_ID}", 600)


async def test_the_operator_may_permit_no_such_subscribers(whole: Whole) -> None:
    async with whole.running(subscriber_types="https") as api:
        client = await whole.connect(api)

        reply = await client.ask("subscription_create", queue_name="q")

    assert reply.status == 400
    assert "must be supported in the list" in reply.body["error"]


async def _wills(api: Api) -> list[str]:
    """The ids of the wills in the store. Each names the subscription to q."""
    page = await api.service.storage.messages.page(
        WILLS_REF, marker=None, limit=10, now=api.service.clock.now(), include_delayed=True
    )
    for message in page.messages:
        assert [held.queue for held in read_will(message.body).held] == ["q"]
    return [message.id for message in page.messages]


async def _wills_without(api: Api, former: str) -> list[str]:
    """The ids of the wills, once this one is replaced."""
    async with asyncio.timeout(10):
        while former in (left := await _wills(api)) or not left:  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.02)
    return left


async def _until_gone(api: Api) -> None:
    subscriptions, now = api.service.storage.control.subscriptions, api.service.clock.now

    async with asyncio.timeout(10):
        while await subscriptions.count("p1", now=now()):  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.05)
    assert await subscriptions.list(QueueRef("p1", "q"), marker=None, limit=5, now=now()) == []


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a count tells nobody
            await asyncio.sleep(0.02)
