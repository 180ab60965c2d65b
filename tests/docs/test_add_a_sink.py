"""The example sink, used by the engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sinks.base import Sink
from tests.docs.pages import ROOT, blocks, named, read, rows, section
from tests.workers.office import DEADLINE_SECONDS, until, until_stored
from workers.engine import Engine
from zaqar_notify import messages, subscriptions
from zaqar_notify.clock import SystemClock
from zaqar_notify.models import QueueRef
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage

PAGE = read("add-a-sink.md")
QUEUE = QueueRef("demo", "orders")


class Registered:
    """Stands in for the registry, with the example in it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    @property
    def troubles(self) -> dict[str, int]:
        return {}

    def for_subscriber(self, uri: str) -> Sink | None:
        return self._sink if uri.partition(":")[0].lower() in self._sink.schemes else None

    async def close(self) -> None:
        await self._sink.close()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service whose engine has the example for its only sink; its files are in `tmp_path`."""
    (example,) = blocks(PAGE, "python")
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - our own page
    settings, clock = Settings(subscriber_types="lines"), SystemClock()
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    engine = Engine(
        storage, Registered(names["LinesSink"](tmp_path)), clock=clock, settings=settings
    )
    running = asyncio.create_task(engine.run())
    yield Service(storage=storage, settings=settings, clock=clock, doorbell=engine)
    await engine.drain(DEADLINE_SECONDS)
    await running
    await storage.close()


async def subscribe_and_post(service: Service, subscriber: str) -> str:
    """One message for one subscriber; the subscription's id."""
    document = json.dumps({"subscriber": subscriber}).encode()
    subscription = await subscriptions.create(service, QUEUE, document)
    await messages.post(
        service, QUEUE, b'{"messages": [{"body": {"order":\n1}}]}', client_id="a" * 32
    )
    return subscription.id


async def test_the_example_appends_what_is_posted(service: Service, tmp_path: Path) -> None:
    await subscribe_and_post(service, "lines://Orders")

    await until(lambda: written(tmp_path).endswith("\n"))

    (line,) = written(tmp_path).splitlines()
    assert json.loads(line)["body"] == {"order": 1}


async def test_what_the_example_refuses_is_recorded(service: Service, tmp_path: Path) -> None:
    subscription_id = await subscribe_and_post(service, "lines://a.b/../c")

    async def details() -> list[str]:
        given_up = await subscriptions.undelivered(
            service, QUEUE, subscription_id, marker=None, limit=None
        )
        return [each.record.detail for each in given_up]

    async def is_recorded() -> bool:
        return bool(await details())

    await until_stored(is_recorded)

    assert await details() == ["the subscriber is not lines://NAME"]
    assert written(tmp_path) == ""


def written(directory: Path) -> str:
    """What all of the example's files hold."""
    return "".join(path.read_text() for path in directory.glob("*.jsonl"))


def test_the_places_to_change_exist() -> None:
    for row in rows(section(PAGE, "## Where it is made known")):
        for name in named(row[0]):
            assert (ROOT / name).exists(), name
