"""The account of Redis has the rights that the page of the cluster gives it, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clock import START
from tests.contract.steps import after, bodies, claim, page, post, subscribe
from tests.redis.servers import own_server
from tests.redis_server import RedisServer
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.registry import open_storage

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with own_server(tmp_path) as server:
        yield server


async def test_the_rights_of_the_documented_account_are_enough(server: RedisServer) -> None:
    [rights] = re.findall(r"ACL SETUSER zaqar on >PASSWORD ([^`]*)`", PAGE.read_text())
    words = ("ACL", "SETUSER", "zaqar", "on", ">secret", *rights.split())
    server.client.execute_command(*words)  # type: ignore[no-untyped-call]
    queue, other = QueueRef("demo", "orders"), QueueRef("demo", "others")
    storage = await open_storage(f"redis://zaqar:secret@127.0.0.1:{server.port}/0")

    await storage.queues.create(queue, metadata={}, now=START)
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["a", "b"])
    await post(storage, other, bodies=["c"])
    await claim(storage, queue, limit=1)
    await storage.store.messages.purge(other, now=START)
    seen = bodies(await page(storage, queue))
    await storage.prove()
    await storage.ping()
    findings = await storage.diagnose()
    await storage.subscriptions.delete_all(queue)
    await storage.queues.delete(queue, now=START)
    await storage.sweep(now=after(1_000_000), limit=100)
    left = await storage.queues.list("demo", marker=None, limit=10)
    await storage.close()

    assert seen == ["b"]
    assert [finding.level.value for finding in findings] == ["ok"]
    assert [each.ref for each in left] == [other]
