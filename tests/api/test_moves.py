"""Moves of queues over HTTP: asked for, shown, listed, given up. `tests/e2e/test_moves.py` has moves that come to their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import PROJECT, Api, StartApi

MOVE = {"project": PROJECT, "queue": "orders", "pool": "p1"}


@pytest.fixture
async def api(start_api: StartApi, tmp_path: Path) -> Api:
    """With a queue, and a pool to which it can move."""
    api = await start_api(admin_mode=True)
    await api.post_bodies("orders", "first")
    pool = await api.put("/v2/pools/p1", {"uri": f"sqlite://{tmp_path}/p1.db", "weight": 0})
    assert pool.status == 201, pool
    return api


async def test_a_move_that_was_asked_for_is_shown_and_listed(api: Api) -> None:
    asked = await api.post("/v2/moves", MOVE)
    again = await api.post("/v2/moves", MOVE)

    assert (asked.status, again.status) == (202, 202)
    assert asked.json | MOVE == asked.json
    assert again.json["id"] == asked.json["id"]
    assert (await api.get(asked.json["href"])).json == asked.json
    assert (await api.get("/v2/moves")).json == {"moves": [asked.json]}


async def test_a_move_is_given_up(api: Api) -> None:
    asked = (await api.post("/v2/moves", MOVE)).json

    given_up = [await api.delete(asked["href"]) for _ in range(2)]

    assert [each.status for each in given_up] == [204, 204]
    page = await api.get("/v2/queues/orders/messages?echo=true")
    assert [message["body"] for message in page.json["messages"]] == ["first"]


async def test_a_move_that_there_is_not(api: Api) -> None:
    assert (await api.get("/v2/moves/none")).status == 404
    assert (await api.delete("/v2/moves/none")).status == 404
    assert (await api.post("/v2/moves", MOVE | {"pool": "none"})).status >= 400
