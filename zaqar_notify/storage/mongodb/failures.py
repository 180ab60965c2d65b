"""The one place that knows the client library's errors, and turns them into ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
)

from zaqar_notify.errors import (
    StorageFull,
    StorageLeaderless,
    StorageRefused,
    StorageUnavailable,
)

DUPLICATE_KEY = 11000
UNDECIDED = frozenset(
    {6, 7, 50, 89, 91, 133, 189, 202, 262, 9001, 10107, 11600, 11602, 13435, 13436}
)
"""Codes of a router when the document's shard gave no answer, or changed its primary: the write may
happen all the same."""

UNAUTHORIZED = 13
AUTHENTICATION = frozenset({11, 18, 334, 8000})
"""UserNotFound, AuthenticationFailed, MechanismUnavailable; AtlasError, which says so of passwords."""
NO_PRIMARY = frozenset({91, 133, 189, 10058, 10107, 11600, 11602, 13435, 13436})
"""Of a server that is not the primary, or is about to be none; and of a router that finds none."""
NO_MAJORITY = frozenset({64, 100})
"""WriteConcernFailed, as when `wtimeout` is over; UnsatisfiableWriteConcern: too few members."""
NO_ROOM = frozenset({14031})
"""OutOfDiskSpace."""

RIGHTS = (
    "give it the role readWrite on the service's database (docs/cluster.md, The account of MongoDB)"
)

T = TypeVar("T")


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the client library's failures into ours, keeping the cause."""
    try:
        yield
    except InvalidOperation as error:
        raise StorageUnavailable("The store is closed") from error
    except PyMongoError as error:
        raise named(error) from error


def named(error: PyMongoError) -> StorageUnavailable:
    """Our error, with the servers' answer, or with the news that no server answered."""
    codes, text = _codes(error), told(error)
    if UNAUTHORIZED in codes:
        return StorageRefused(f"MongoDB refuses the account a right: {text}; {RIGHTS}")
    if codes & AUTHENTICATION:
        return StorageRefused(
            f"MongoDB refuses the account: {text}; correct user, password or authSource in ZAQAR_STORE_URI"
        )
    if codes & NO_ROOM:
        return StorageFull(f"The disk of the MongoDB is full: {text}")
    if codes & NO_PRIMARY or isinstance(error, NotPrimaryError):
        return StorageLeaderless(f"The server of MongoDB that was asked is not the primary: {text}")
    if isinstance(error, ServerSelectionTimeoutError) and text.startswith(_NONE_SELECTED):
        return StorageLeaderless(f"The MongoDB has no primary: {text}")
    if codes & NO_MAJORITY or isinstance(error, WriteConcernError):
        return StorageLeaderless(
            f"No majority of the MongoDB's members has acknowledged a write: {text}; "
            "is a member with data down or frozen?"
        )
    if isinstance(error, OperationFailure):
        return StorageUnavailable(f"MongoDB answered with an error: {text}")
    return StorageUnavailable(f"MongoDB gives no answer: {text}")


def refuse_unacknowledged(answer: Mapping[str, Any]) -> None:
    """Raise the error of a command's write, which the library does not raise for commands.

    Raises:
        OperationFailure: The write was refused, or not acknowledged.
    """
    for wrong in [*answer.get("writeErrors", ()), answer.get("writeConcernError")]:
        if wrong:
            kind = OperationFailure if "index" in wrong else WriteConcernError
            raise kind(wrong.get("errmsg", ""), wrong.get("code"), dict(answer))


_NONE_SELECTED = ("No primary available", "No replica set members match selector")


def told(error: PyMongoError) -> str:
    """The library's sentence, without the state of each server, and without the command."""
    sentence = str(error).partition(", Timeout:")[0].partition(", full error:")[0]
    return _COMMAND.sub(r"\1 \2", sentence)


_COMMAND = re.compile(r"(to execute command) \{ (\w+):.*")


def _codes(error: PyMongoError) -> set[int]:
    """The server's codes: of the command, of single writes, and of write concerns."""
    if not isinstance(error, OperationFailure):
        return set()
    details = error.details or {}
    several = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    found = {one.get("code") for one in several} | {error.code}
    return {code for code in found if isinstance(code, int)}


def is_duplicate(error: PyMongoError) -> bool:
    """Whether a write was refused for an `_id` or unique value that is there already."""
    if isinstance(error, BulkWriteError):
        return _are_all(error, lambda code: code == DUPLICATE_KEY)
    return isinstance(error, DuplicateKeyError)


def is_refused(error: PyMongoError) -> bool:
    """Whether the server, or the library before it, refused a write because of its content."""
    if isinstance(error, BulkWriteError):
        return _are_all(error, lambda code: code not in UNDECIDED)
    return isinstance(error, DocumentTooLarge | WriteError)


def _are_all(error: BulkWriteError, is_such: Callable[[int], bool]) -> bool:
    """Whether there are only such errors of single writes, and a majority knows of them.

    Without a majority, a fail-over may undo the document that stood in the way, and the written ones.
    """
    wrong = error.details["writeErrors"]
    return (
        bool(wrong)
        and all(is_such(one["code"]) for one in wrong)
        and not error.details["writeConcernErrors"]
    )


async def rerun(write: Callable[[], Awaitable[T]]) -> T:
    """Make a write that changes many documents, and once more when its answer was lost.

    The library repeats only writes to single documents. The write must be one that does no harm
    twice.
    """
    try:
        return await write()
    except AutoReconnect:
        return await write()
