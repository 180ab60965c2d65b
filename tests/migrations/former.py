"""Stores that former releases wrote, put into place as they were."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
from bson import json_util

from tests.migrations.fill import STORES
from tests.mongod import mongo_uri

KEPT_BY_SERVER = ("reclaim_at",)
"""Instants at which the server removes a document by itself, by its own clock."""


def facts_of(name: str) -> dict[str, Any]:
    """The ids and markers that were handed out when the store was made."""
    facts: dict[str, Any] = json.loads((STORES / f"{name}.facts.json").read_text())
    return facts


def put_sqlite(name: str, directory: Path) -> str:
    """Make the database file; its URI."""
    path = directory / "store.db"
    with sqlite3.connect(path) as db:
        db.executescript((STORES / f"{name}.sql").read_text())
    db.close()
    return f"sqlite://{path}"


def put_mongodb(name: str, _directory: Path) -> str:
    """Make the database on the server of the tests; its URI."""
    uri = mongo_uri()
    options = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True)
    stored = json_util.loads((STORES / f"{name}.json").read_text(), json_options=options)
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        database = client.get_default_database()
        for collection, content in stored.items():
            if content["indexes"]:
                database.command("createIndexes", collection, indexes=content["indexes"])
            database[collection].insert_many(_kept(each) for each in content["documents"])
    return uri


def _kept(document: dict[str, Any]) -> dict[str, Any]:
    """As it was on its own day: the server's clock has gone on since."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return {key: tomorrow if key in KEPT_BY_SERVER else document[key] for key in document}
