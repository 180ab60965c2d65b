"""Deletions by id, for writes; and the search for a message that has an id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import apsw
import msgspec

from zaqar_notify.errors import ClaimNotHeld, MessageIsClaimed
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.sqlite.cancelling import cancel
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.removals import Removals
from zaqar_notify.storage.sqlite.statements import MOVED, OWN, OWN_CLAIMED, first_value, lookups


class FoundMessage(msgspec.Struct, frozen=True):
    """A message by its serial number: the live claim on it, if any, or until when it is delayed."""

    serial: int
    holder: str | None
    delayed_until: int | None


class Deleting:
    def __init__(self, rows: QueueRows, removals: Removals) -> None:
        self._rows = rows
        self._removals = removals

    def delete(
        self, db: apsw.Connection, queue: QueueRow, message_id: str, claim_id: str | None, now: int
    ) -> None:
        found = self._find(db, queue, message_id, now, claim_id)
        if found is None:
            return
        if claim_id != found.holder:
            if found.holder is not None and (
                claim_id is None or _is_live(db, queue.number, claim_id, now)
            ):
                raise MessageIsClaimed(message_id)
            raise ClaimNotHeld(str(claim_id), message_id)
        self._remove(db, queue, {message_id: found}, now)

    def delete_many(
        self,
        db: apsw.Connection,
        queue: QueueRow,
        ids: Sequence[str],
        claim_ids: Sequence[str] | None,
        now: int,
    ) -> None:
        found = {
            message_id: one for message_id in ids if (one := self._find(db, queue, message_id, now))
        }
        for message_id, one in found.items():
            if claim_ids is not None and one.holder not in {None, *claim_ids}:
                raise ClaimNotHeld(", ".join(claim_ids), message_id)
        self._remove(db, queue, found, now)

    def held_by(
        self, db: apsw.Connection, ref: QueueRef, claim_id: str, message_id: str, now: int
    ) -> int | None:
        """The serial number of a message, for writes, if a live claim of that id holds it."""
        queue = self._rows.find(db, ref)
        found = None if queue is None else self._find(db, queue, message_id, now, claim_id)
        return found.serial if found is not None and found.holder == claim_id else None

    def _find(
        self,
        db: apsw.Connection,
        queue: QueueRow,
        message_id: str,
        now: int,
        claim_id: str | None = None,
    ) -> FoundMessage | None:
        """A message that exists, by its id; if the caller names a claim, it is sought among claimed ones first."""
        own = (OWN,) if claim_id is None else (OWN_CLAIMED, OWN)
        for statement, bindings in lookups(queue, message_id, own, MOVED):
            for serial, claim, held_until, expires_at in db.execute(statement, bindings):
                if expires_at > now and not self._removals.has(serial):
                    is_held = held_until is not None and held_until > now
                    is_delayed = is_held and claim is None
                    return FoundMessage(
                        serial, claim if is_held else None, held_until if is_delayed else None
                    )
        return None

    def _remove(
        self, db: apsw.Connection, queue: QueueRow, found: Mapping[str, FoundMessage], now: int
    ) -> None:
        """Delete messages by their ids, and note those that are not due yet."""
        self._removals.add(db, [one.serial for one in found.values()])
        delayed = {
            message_id: one.delayed_until
            for message_id, one in found.items()
            if one.delayed_until is not None
        }
        if delayed:
            cancel(db, queue.ref, delayed, now)


def _is_live(db: apsw.Connection, number: int, claim_id: str, now: int) -> bool:
    statement = "SELECT 1 FROM claims WHERE id = ? AND queue = ? AND expires_at > ?"
    return first_value(db, statement, (claim_id, number, now)) is not None
