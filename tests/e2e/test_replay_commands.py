"""Replays and redrives from the command line, against a real service."""

from __future__ import annotations

import pytest

from tests.e2e.test_commands import printed, run
from tests.service import Service
from tests.workers.office import until
from zaqar_notify.client import Client


@pytest.fixture(autouse=True)
def _address(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAQAR_URL", service.url)


async def test_messages_that_are_still_there_are_delivered_again(
    client: Client, queue: str
) -> None:
    copies = f"{queue}-copies"
    client.subscribe(queue, f"queue:{copies}-1")
    client.post(queue, 1, 2, 3)
    await until(lambda: client.stats(f"{copies}-1").total == 3)
    later = client.subscribe(queue, f"queue:{copies}-2")

    done = printed("delivery", "replay", queue, later, "--outcome", "delivered")

    assert (done["state"], done["moved"]) == ("done", 3)
    await until(lambda: client.stats(f"{copies}-2").total == 3)
    assert client.stats(f"{copies}-1").total == 3
    listed = run("replay", "list").stdout
    assert done["id"] in listed
    assert "done" in run("replay", "show", done["id"]).stdout


async def test_a_dead_letter_goes_back_to_its_queue(client: Client, queue: str) -> None:
    client.create_queue(f"{queue}-dead")
    client.create_queue(queue, {"_dead_letter_queue": f"{queue}-dead", "_max_claim_count": 1})
    client.post(queue, "again")
    client.claim(queue).release()
    client.claim(queue)
    await until(lambda: client.stats(f"{queue}-dead").total == 1)

    done = printed("queue", "redrive", f"{queue}-dead", "--per-second", "50")

    assert (done["kind"], done["moved"], done["left"]) == ("redrive", 1, 0)
    assert client.stats(queue).total == 1


def test_a_replay_is_cancelled(client: Client, queue: str) -> None:
    subscription_id = client.subscribe(queue, f"queue:{queue}-copies")
    client.post(queue, *range(50))
    arguments = ("--outcome", "delivered", "--per-second", "1", "--no-wait")
    begun = printed("delivery", "replay", queue, subscription_id, *arguments)

    run("replay", "cancel", begun["id"])

    assert begun["state"] == "running"
    run("replay", "cancel", "unknown", exit_code=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["delivery", "replay", "q", "s", "--since", "yesterday"],
        ["delivery", "replay", "q", "s", "--outcome", "failed"],
        ["delivery", "replay", "q", "s", "--per-second", "0"],
    ],
)
def test_arguments_that_mean_nothing_end_with_2(arguments: list[str]) -> None:
    run(*arguments, exit_code=2)
