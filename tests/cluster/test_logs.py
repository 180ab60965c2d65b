"""Logs of a cluster's processes as JSON: a record is a line, and a post is found in all of them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import REACHED_BROKER, WORKERS, Hook, Process, subscribe

JSON = {"ZAQAR_LOG_FORMAT": "json"}
DEBUG = {"ZAQAR_LOG_LEVEL": "debug"}

BODY = "a body that is nobody's business"
BODY_IN_BASE64 = base64.b64encode(json.dumps(BODY).encode()).decode()
"""As MongoDB's driver would show it."""

CALLERS_ID = "req-2f1a7e0c-3b1e-4c57-9a55-0123456789ab"


def records(process: Process) -> list[dict[str, Any]]:
    """Its log. Every line must be a record."""
    return [json.loads(line) for line in process.log.read_text().splitlines()]


def of(action: str, process: Process) -> list[dict[str, Any]]:
    return [record for record in records(process) if record.get("action") == action]


@pytest.mark.parametrize("kind", WORKERS)
async def test_a_post_is_found_in_the_logs_of_the_api_and_the_worker_without_its_body(
    cluster: Cluster, session: aiohttp.ClientSession, hook: Hook, kind: str
) -> None:
    api = await asyncio.to_thread(cluster.api, environ=JSON | DEBUG)
    worker = await asyncio.to_thread(cluster.worker, kind, environ=JSON | DEBUG)
    await subscribe(session, api, hook)

    async with session.post(
        f"{api.url}/v2/queues/{hook.queue}/messages",
        json={"messages": [{"body": BODY}]},
        headers={"X-OpenStack-Request-Id": CALLERS_ID},
    ) as answered:
        request_id = answered.headers["X-OpenStack-Request-Id"]
    await hook.received(BODY)
    await asyncio.to_thread(cluster.end_processes)

    [delivered] = of("delivered", worker)
    assert delivered["request_id"] == request_id
    assert [
        request["global_request_id"]
        for request in of("request", api)
        if request["request_id"] == request_id
    ] == [CALLERS_ID]
    logged = api.printed() + worker.printed()
    assert BODY not in logged
    assert BODY_IN_BASE64 not in logged


@pytest.mark.parametrize("kind", ["threads", "celery"])
def test_what_celery_says_of_a_broker_that_is_away_is_a_record_too(
    cluster: Cluster, kind: str
) -> None:
    worker = cluster.worker(kind, environ=JSON)
    worker.wait_until(lambda: REACHED_BROKER in worker.printed())

    cluster.redis.kill()
    worker.wait_until(lambda: "Cannot connect" in worker.printed())
    cluster.redis.start()
    worker.stop()

    assert any("Cannot connect" in record["message"] for record in records(worker))
