"""A redrive goes on after `kill -9` of the process, and sends nothing twice; so does a pause."""

from __future__ import annotations

import time
from pathlib import Path

from tests.service import Service
from zaqar_notify.client import Client, Replay

LETTERS = 60
PATIENCE_SECONDS = 60.0


def until_moved(client: Client, redrive: Replay, count: int) -> Replay:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while redrive.moved < count and not redrive.is_over:
        assert time.monotonic() < deadline, redrive
        redrive = client.replay_state(redrive.id)
    return redrive


def all_bodies(client: Client, queue: str) -> list[object]:
    found: list[object] = []
    marker = None
    while (page := client.messages(queue, marker, limit=20, echo=True)).messages:
        found += [message.body for message in page.messages]
        marker = page.marker
    return found


def test_a_redrive_outlives_the_process_that_is_killed_in_it(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")
    service.start()
    try:
        with Client(service.url) as client:
            for first in range(0, LETTERS, 20):
                client.post("dead", *range(first, first + 20))
            paused = client.subscribe("dead", "queue:copies")
            client.pause("dead", paused, why="over restarts, too")
            redrive = client.redrive("dead", target="work", per_second=20)
            until_moved(client, redrive, 20)
        service.kill()
        service.start()
        with Client(service.url) as client:
            end = until_moved(client, redrive, LETTERS + 1)

            assert (end.state, end.left) == ("done", 0)
            assert sorted(all_bodies(client, "work"), key=str) == sorted(range(LETTERS), key=str)
            assert all_bodies(client, "dead") == []
            shown = client.subscription("dead", paused).disabled
            assert shown is not None
            assert shown.detail == "over restarts, too"
    finally:
        service.stop()
