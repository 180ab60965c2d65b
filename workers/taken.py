"""A job or delivery in hand."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Protocol

from zaqar_notify.delivery import OWED_TTL_SECONDS, Work, WrittenLater, read_work
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Message

logger = logging.getLogger(__name__)


class Holder(Protocol):
    """Has the leases of jobs in hand."""

    @property
    def pool(self) -> str: ...

    def holds(self, claim_id: str, now: datetime) -> bool: ...

    def full(self) -> frozenset[str]: ...

    def finish(self, taken: Taken) -> None: ...

    def let_go(self, taken: Taken) -> None: ...


class Taken:
    """A job or delivery in hand, and its parts. With the last part it is finished: it is deleted.

    If a part has failed, the job is kept, and is claimed anew when its lease lapses. As a context manager: a
    part ends with the work inside. After an exception it has failed; if it is cancelled, it is left in hand,
    to be given back.
    """

    __slots__ = ("_has_failed", "_holder", "_parts", "claim_id", "message", "project", "work")

    def __init__(
        self, holder: Holder, claim_id: str, message: Message, work: Work | WrittenLater | None
    ) -> None:
        self._holder = holder
        self._parts = 1
        self._has_failed = False
        self.claim_id = claim_id
        self.message = message
        self.work = work
        """None: it can't be read here."""
        self.project = "" if isinstance(work, WrittenLater | None) else work.project
        """The project whose deliveries these are."""

    @property
    def pool(self) -> str:
        """Where it is, and where the own queues of its subscription are."""
        return self._holder.pool

    @property
    def due_at(self) -> datetime:
        """When it became visible first. Records live so long from then on: see `delivery.records`."""
        delay = max(0, self.message.ttl - OWED_TTL_SECONDS)
        return self.message.posted_at + timedelta(seconds=delay)

    @property
    def is_repeated(self) -> bool:
        """Whether a worker had it before, which may have made attempts and died."""
        return self.message.claim_count > 1

    def is_held(self, now: datetime) -> bool:
        """Whether its lease still runs. Once it has lapsed, the job is another worker's for good."""
        return self._holder.holds(self.claim_id, now)

    def crowds(self) -> bool:
        """Whether its project has its share in hand, so that others of the project wait for this one."""
        return self.project in self._holder.full()

    def add_part(self) -> None:
        """One more part will be done; there is one from the start."""
        self._parts += 1

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self._part_ends()
        elif isinstance(error, Exception):
            self.fail_part()

    def fail_part(self) -> None:
        """Its results are not recorded."""
        self._has_failed = True
        self._part_ends()

    def _part_ends(self) -> None:
        self._parts -= 1
        if self._parts:
            return
        if self._has_failed:
            self._holder.let_go(self)
        else:
            self._holder.finish(self)


@contextmanager
def ending_part_of_each(batch: Iterable[Taken]) -> Iterator[None]:
    """A part of each of these jobs ends with the work inside."""
    with ExitStack() as stack:
        for taken in batch:
            stack.enter_context(taken)
        yield


@contextmanager
def working_on(batch: Iterable[Taken]) -> Iterator[None]:
    """The same, as the whole work of a task. A defect is logged here; no job stays in hand for it."""
    try:
        with ending_part_of_each(batch):
            yield
    except StorageUnavailable:
        return  # When stopping, or when the queue's pool is away: the job comes back when its lease lapses.
    except Exception:
        logger.exception("A job failed", extra={"action": "job_failed"})


def read_job(message: Message) -> Work | WrittenLater | None:
    """The work of the job; None, and a log line, where it can't be read."""
    try:
        return read_work(message.body)
    except WrittenLater as later:
        return later
    except ValueError as error:
        logger.error(
            "A job can't be read; after many claims it is put aside",
            extra={"action": "job_unreadable", "job": message.id, "error": str(error)},
        )
        return None
