"""A secret that was rotated when a subscription knew its last rotation only."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.clock import START
from tests.migrations.former import facts_of, put_mongodb, put_sqlite
from tests.workers.office import QUEUE
from zaqar_notify.rules.webhook_signing import webhook_secrets
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.values import to_ms


def rotated_in_sqlite(directory: Path) -> str:
    uri = put_sqlite("sqlite-1", directory)
    with sqlite3.connect(uri.removeprefix("sqlite://")) as db:
        change = "UPDATE subscriptions SET secret_generation = 4, secret_rotated_at = ?"
        db.execute(f"{change} WHERE id LIKE '1%'", (to_ms(START),))
    db.close()
    return uri


def rotated_in_mongodb(directory: Path) -> str:
    uri = put_mongodb("mongodb-1", directory)
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        client.get_default_database().subscriptions.update_one(
            {"_id": {"$regex": "1{32}$"}},
            {"$set": {"secret_generation": 4, "secret_rotated_at": START}},
        )
    return uri


@pytest.mark.parametrize(
    ("name", "put"), [("sqlite-1", rotated_in_sqlite), ("mongodb-1", rotated_in_mongodb)]
)
async def test_the_secret_of_before_the_last_rotation_signs_on(
    name: str, put: Any, tmp_path: Path
) -> None:
    storage = await open_storage(put(tmp_path))
    try:
        rotated, never = [
            await storage.subscriptions.get(QUEUE, one, now=START)
            for one in facts_of(name)["subscriptions"]
        ]
    finally:
        await storage.close()

    assert rotated is not None
    assert never is not None
    assert (rotated.secret_generation, rotated.secret_rotations) == (4, (START,))
    assert (never.secret_generation, never.secret_rotations) == (0, ())
    late = START + timedelta(seconds=59)
    assert len(webhook_secrets("master", rotated, now=late, overlap_seconds=60)) == 2
