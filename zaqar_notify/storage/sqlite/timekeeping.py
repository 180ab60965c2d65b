"""The clock of the process that has the file, which goes on over restarts.

Stored instants are that clock's, so a start that began with the host's would let leases, delays and ttls
jump by every change of the host's clock since. A note in the file says how to go on:

- since the same boot of the computer: by the time that it has run since then;
- after another boot: by the host's clock, as far ahead or behind as it was, and never back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec

from zaqar_notify.clock import (
    STEP_SECONDS,
    Clock,
    SteadyClock,
    SystemClock,
    new_id,
    running_seconds,
)
from zaqar_notify.storage.sqlite.database import Database
from zaqar_notify.storage.values import from_ms, to_ms

NOTE_SECONDS = 60.0
"""So far back may a start go that finds the host's clock set back by a boot."""
WORTH_TELLING_SECONDS = 1.0

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

logger = logging.getLogger(__name__)


class Noted(msgspec.Struct, frozen=True):
    """The readings of all clocks at one moment; milliseconds."""

    boot: str
    running: int
    instant: int
    host: int


class Timekeeping:
    def __init__(
        self,
        database: Database,
        *,
        host: Clock | None = None,
        seconds: Callable[[], float] = running_seconds,
        boot: str | None = None,
    ) -> None:
        self._host = SystemClock() if host is None else host
        self._seconds = seconds
        self._boot = _boot_id() if boot is None else boot
        row = database.read_one("SELECT boot, running, instant, host FROM clock")
        begin = None if row is None else from_ms(self._resumed(Noted(*row)))
        self.clock = SteadyClock(begin=begin, host=self._host, seconds=seconds)
        self._note_at = 0.0
        self._ahead = self.clock.host_ahead()

    def note(self, db: apsw.Connection) -> None:
        """For a write that is made regularly: see to it that the next start can go on."""
        ahead, running = self.clock.host_ahead(), self._seconds()
        step = (ahead - self._ahead).total_seconds()
        if abs(step) > STEP_SECONDS:
            self._tell(step)
        elif running < self._note_at:
            return
        self._ahead, self._note_at = ahead, running + NOTE_SECONDS
        noted = Noted(
            self._boot, int(running * 1000), to_ms(self.clock.now()), to_ms(self._host.now())
        )
        db.execute("DELETE FROM clock")
        db.execute("INSERT INTO clock VALUES (?, ?, ?, ?)", msgspec.structs.astuple(noted))

    def _resumed(self, noted: Noted) -> int:
        if noted.boot == self._boot:
            passed = int(self._seconds() * 1000) - noted.running
        else:
            passed = to_ms(self._host.now()) - noted.host
        return noted.instant + max(0, passed)

    def _tell(self, step: float) -> None:
        if abs(step) < WORTH_TELLING_SECONDS:
            return
        logger.warning(
            "The host's clock was set; leases, delays and ttls go on as before",
            extra={"action": "clock_jumped", "seconds": round(step, 3)},
        )


def _boot_id() -> str:
    """Names this run of the computer; without such a name each start passes for one after a boot."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return new_id()
