"""The delivery log after a kill -9 of the worker that wrote it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, empty_cluster
from tests.cluster.processes import PATIENCE_SECONDS, Hook
from tests.mongod import mongo_uri
from tests.redis_server import DURABLE, RedisServer, require_redis
from zaqar_notify.client import Client, Delivery, NotFound

SOON = {"_retry_policy": {"retries_with_no_delay": 3}}


@pytest.fixture(params=["mongodb", "redis"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    require_redis()
    (tmp_path / "redis").mkdir()
    redis = RedisServer(tmp_path / "redis", options=DURABLE)
    in_redis = f"redis://127.0.0.1:{redis.port}/1"
    store_uri = mongo_uri() if request.param == "mongodb" else in_redis
    with empty_cluster(tmp_path, store_uri, redis=redis) as cluster:
        yield cluster


async def test_the_log_keeps_what_a_killed_worker_tried_and_goes_on_with_another(
    cluster: Cluster, hook: Hook
) -> None:
    api = await asyncio.to_thread(cluster.api)
    killed = await asyncio.to_thread(cluster.worker)
    hook.statuses = [503] * 100
    began = datetime.now(UTC)
    with Client(api.url, "demo") as client:
        subscription_id = client.subscribe(hook.queue, hook.url, options=SOON)
        [message_id] = client.post(hook.queue, "hello")
        await hook.received("hello")

        first = await _seen(client, hook, lambda found: len(found.attempts) >= 1)
        killed.kill()
        hook.statuses.clear()
        await asyncio.to_thread(cluster.worker)
        done = await _seen(client, hook, lambda found: found.state == "delivered")

        assert (first.attempts[0].status, first.state) == (503, "retrying")
        assert done.attempts[: len(first.attempts)] == first.attempts
        assert done.attempts[-1].status == 204
        assert len({each.worker for each in done.attempts}) == 2
        assert (done.subscription_id, done.message_id) == (subscription_id, message_id)
        assert list(client.deliveries.of_message(hook.queue, message_id)) == [done]
        assert next(client.deliveries.tail(since=began)) == done.attempts[0]
        assert client.deliveries.stats(hook.queue, subscription_id).dead == 0


async def _seen(client: Client, hook: Hook, is_so: Callable[[Delivery], bool]) -> Delivery:
    """The delivery that the hook got, once the log shows that of it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                found = await asyncio.to_thread(client.deliveries.show, hook.delivery_ids[0])
            except NotFound:
                found = None
            if found is not None and is_so(found):
                return found
            await asyncio.sleep(0.05)
