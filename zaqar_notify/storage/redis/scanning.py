"""Where a look for the first visible messages begins, and what it passes over."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.passing import Look, Passing
from zaqar_notify.storage.sealing import Sealing


class Scan:
    """One caller's look, of one script or several."""

    def __init__(self, look: Look[str], without: Sequence[str]) -> None:
        self.without = without
        self.after = look.after or ""
        self.skipped: list[str] = []
        """Positions of messages that were found to be unreadable."""
        self._look = look
        self._began_behind = bool(look.after)

    def end(self, found: str | None) -> None:
        """Say where the first message was that it found."""
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

    def begin(self, ref: QueueRef, without_clients: Collection[str]) -> Scan:
        without = sorted(without_clients)
        return Scan(self._passing.begin(ref, without), without)
