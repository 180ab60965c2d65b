"""A backup of a database as its documents, for where `mongodump` is not to be had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import pymongo

Dump: TypeAlias = Mapping[str, list[dict[str, Any]]]
"""Documents by collection."""


def dump(uri: str) -> Dump:
    """As `mongodump` of a store without writers."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        database = client.get_default_database()
        return {name: list(database[name].find()) for name in database.list_collection_names()}


def restore(uri: str, backup: Dump) -> None:
    """As `mongorestore --drop`, but that the indexes stay."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        database = client.get_default_database()
        for name, documents in backup.items():
            database[name].delete_many({})
            if documents:
                database[name].insert_many(documents)
