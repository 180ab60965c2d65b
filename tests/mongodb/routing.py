"""The shards that a router would send a command to, by the shard key in its filter."""

from __future__ import annotations

from typing import Any

from tests.mongodb.commands import Command
from zaqar_notify.storage.mongodb.indexes import (
    BY_DOUBT,
    BY_EXPIRY,
    BY_KEY,
    BY_POOL,
    DROPPED,
    SHARD_KEYS,
    UNAPPLIED,
    UNUSED,
)
from zaqar_notify.storage.mongodb.storage import OF_QUEUES
from zaqar_notify.storage.versions import MIGRATION

OF_NO_DOCUMENTS = {"createIndexes", "listIndexes", "getMore", "killCursors", "collStats"}
SWEPT_BY = {BY_DOUBT, BY_EXPIRY, BY_KEY, BY_POOL, DROPPED, UNAPPLIED, UNUSED}
"""The indexes by which the sweep looks for expired documents, on all shards: a few times a second at most,
however many posts there are. It removes them by shard key. By `BY_KEY` the doctor and a change of keys look, by
`BY_POOL` those who remove or empty a pool."""


def goes_astray(command: Command) -> bool:
    """Whether some part of the command does not name where its documents are."""
    name = next(iter(command))
    key = SHARD_KEYS.get(str(command[name]))
    if key is None or name in OF_NO_DOCUMENTS or command.get("comment") == MIGRATION:
        return False
    match name:
        case "insert":
            return not all(key in document for document in command["documents"])
        case "find":
            return not _is_bounded(command["filter"].get(key)) and not _sweeps(command)
        case "aggregate":
            if "$changeStream" in command["pipeline"][0]:
                return False  # Of all shards: events of deletions know no shard key but their own.
            return not _is_bounded(command["pipeline"][0]["$match"].get(key))
        case "findAndModify":
            return not _is_one(command["query"].get(key))
        case "update" | "delete":
            return not all(_finds_its_shard(part, key) for part in command[f"{name}s"])
    raise AssertionError(f"Where does the command {name} go?")


def _sweeps(find: Command) -> bool:
    return find.get("hint") in SWEPT_BY


def _finds_its_shard(part: Command, key: str) -> bool:
    """A write to a single document is refused by a router that must ask more than one shard."""
    if part["q"] == OF_QUEUES:
        return True  # All queues, after a restore.
    condition = part["q"].get(key)
    is_of_many = part.get("multi", False) or part.get("limit") == 0
    return _is_bounded(condition) if is_of_many else _is_one(condition)


def _is_bounded(condition: Any) -> bool:
    """One value, several, or a range with two ends."""
    if not isinstance(condition, dict):
        return condition is not None
    has_start, has_end = {"$gt", "$gte"} & condition.keys(), {"$lt", "$lte"} & condition.keys()
    return "$in" in condition or bool(has_start and has_end)


def _is_one(condition: Any) -> bool:
    return condition is not None and not isinstance(condition, dict)
