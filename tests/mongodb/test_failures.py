"""Errors of servers are told apart; only a missing answer is called one."""

from __future__ import annotations

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from zaqar_notify.errors import (
    StorageFull,
    StorageLeaderless,
    StorageRefused,
    StorageUnavailable,
)
from zaqar_notify.storage.mongodb.failures import named

DETAILS = "Topology Description: <TopologyDescription servers: [...]>"


def of_bulk(code: int) -> BulkWriteError:
    return BulkWriteError({"writeErrors": [{"code": code}], "writeConcernErrors": []})


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (OperationFailure("not authorized on db to execute command { insert: 1 }", 13), StorageRefused, "a right: not authorized on db to execute command insert; give"),
        (OperationFailure("Authentication failed.", 18), StorageRefused, "correct user, password"),
        (OperationFailure("No space left on device", 14031), StorageFull, "is full: No space"),
        (of_bulk(14031), StorageFull, "is full"),
        (of_bulk(13), StorageRefused, "a right"),
        (of_bulk(10107), StorageLeaderless, "not the primary"),
        (OperationFailure("not primary", 10107), StorageLeaderless, "not the primary"),
        (NotPrimaryError("node is recovering"), StorageLeaderless, "not the primary"),
        (ServerSelectionTimeoutError(f"No primary available for writes, Timeout: 5s, {DETAILS}"), StorageLeaderless, "no primary: No primary available for writes"),
        (WriteConcernError("waiting for replication timed out", 64), StorageLeaderless, "No majority"),
        (OperationFailure("operation exceeded time limit", 50), StorageUnavailable, "answered with an error"),
        (ServerSelectionTimeoutError(f"h:27017: connection refused, Timeout: 5s, {DETAILS}"), StorageUnavailable, "gives no answer: h:27017"),
        (NetworkTimeout("h:27017: timed out"), StorageUnavailable, "gives no answer"),
        (AutoReconnect("connection closed"), StorageUnavailable, "gives no answer"),
    ],
)  # fmt: skip
def test_a_failure_is_of_the_kind_that_it_is(
    error: PyMongoError, kind: type[StorageUnavailable], sentence: str
) -> None:
    ours = named(error)

    assert type(ours) is kind
    assert sentence in str(ours)
    assert "Topology" not in str(ours)
