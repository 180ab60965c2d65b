"""One write that waits for its batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import apsw

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.sqlite.failures import storage_errors
from zaqar_notify.storage.sqlite.reserve import Grows

T = TypeVar("T")
Write: TypeAlias = Callable[[apsw.Connection], T]


class Pending(Generic[T]):
    """One write that waits for its batch, and the future that its caller waits for."""

    __slots__ = ("_failure", "_result", "_write", "future", "grows")

    def __init__(self, write: Write[T], future: asyncio.Future[T], grows: Grows) -> None:
        self.future = future
        self.grows = grows
        self._write = write
        self._result: T | None = None
        self._failure: Exception | None = None

    def run(self, writer: apsw.Connection) -> bool:
        """Run the statements; False when the write was refused."""
        self._failure = None
        try:
            self._result = self._write(writer)
        except apsw.Error:
            raise
        except Exception as failure:  # A fault of one write is its caller's, not the batch's.
            self._failure = failure
            return False
        return True

    def committed(self) -> None:
        """The transaction is durable: give the caller the result, or the refusal."""
        if self.future.done():
            return
        if self._failure is not None:
            self.future.set_exception(self._failure)
        else:
            self.future.set_result(self._result)  # type: ignore[arg-type]

    def fail(self, error: apsw.Error | StorageUnavailable) -> None:
        """The transaction was undone, and this write was alone in it."""
        if self.future.done():
            return
        try:
            with storage_errors:
                raise self._failure or error
        except Exception as failure:  # The caller gets every error.
            self.future.set_exception(failure)
