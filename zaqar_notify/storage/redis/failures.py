"""The one place that knows the client library's errors, and turns them into ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    RedisError,
)
from redis.exceptions import ConnectionError as Disconnected

from zaqar_notify.errors import (
    StorageFull,
    StorageLeaderless,
    StorageRefused,
    StorageUnavailable,
)

RIGHTS = "let it use all commands of docs/cluster.md (Redis as a message store) on the store's keys"
NOT_THE_PRIMARY = ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN", "UNBLOCKED")
NOT_READY = ("LOADING", "BUSY ")
FULL = ("OOM ", "MISCONF")
REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM")


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the client library's failures into ours, keeping the cause."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise named(error) from error


def named(error: Exception) -> StorageUnavailable:
    """Our error, with the server's answer, or with the news that no server answered."""
    text = str(error)
    if isinstance(error, AuthenticationError | AuthorizationError) or _says(error, REFUSED):
        return StorageRefused(f"Redis refuses the account: {text}; {RIGHTS}")
    if _says(error, FULL):
        return StorageFull(f"The Redis is full: {text}")
    if _says(error, NOT_THE_PRIMARY):
        return StorageLeaderless(
            f"The Redis that was asked is not a primary that can write: {text}"
        )
    if isinstance(error, Disconnected | OSError):
        return StorageUnavailable(f"Redis gives no answer: {text}")
    return StorageUnavailable(f"Redis answered with an error: {text}")


def is_refused_for_now(error: Exception) -> bool:
    """Whether the server did nothing, and another one, or the same one soon, may do it."""
    return _says(error, NOT_THE_PRIMARY) or _says(error, NOT_READY)


def _says(error: Exception, words: tuple[str, ...]) -> bool:
    """Whether the server's answer has one of these words; the library has classes for some of them."""
    text = f"{_WORDS.get(type(error).__name__, '')} {error} "
    return any(word in text for word in words)


_WORDS = {
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "OutOfMemoryError": "OOM ",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
}
"""The library takes the word from the answer."""
