"""The beginning of a look for the first visible messages, and the messages that it passes over."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.passing import Look, Passing
from zaqar_notify.storage.sealing import Sealing

MOST_KNOWN = 1000
"""Queues with many messages that can't be decrypted, until all are forgotten."""


class Scan:
    """One caller's look, of one script or several."""

    def __init__(
        self, scanning: Scanning, ref: QueueRef, look: Look[str] | None, without: Sequence[str]
    ) -> None:
        self.without = without
        self.after = (look.after or "") if look is not None else ""
        self.skipped: list[str] = []
        """Positions of messages that were found to be unreadable."""
        self._look = look
        self._began_behind = bool(self.after)
        self._scanning = scanning
        self._ref = ref

    def goes_on(self, last: str, why: str) -> None:
        """The script has ended at its bound, at this position."""
        self.after = last
        if why == "passed" and not self.without:
            self._scanning.note_many_locked(self._ref)

    def end(self, found: str | None) -> None:
        """Say where the first message was that it found."""
        if self._look is not None:
            self._look.end(found)

    def goes_on_from_the_head(self) -> bool:
        """Whether messages before the place where it began are still to be looked at, when nothing was found."""
        self.end(None)
        again = self._began_behind and not self.without
        self._began_behind, self.after = False, ""
        return again


class Scanning:
    def __init__(self, sealing: Sealing) -> None:
        self.key_ids = list(sealing.keys.ids)
        self._passing: Passing[str] = Passing()
        self._many_locked: set[QueueRef] = set()

    def begin(self, ref: QueueRef, without_clients: Collection[str]) -> Scan:
        without, look = sorted(without_clients), None
        if without or ref in self._many_locked:
            look = self._passing.begin(ref, without)
        return Scan(self, ref, look, without)

    def note_many_locked(self, ref: QueueRef) -> None:
        if len(self._many_locked) >= MOST_KNOWN:
            self._many_locked.clear()
        self._many_locked.add(ref)
