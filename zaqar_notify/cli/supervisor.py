"""Several processes that do the same: started, started again when one ends, and stopped together.

The parent is a loop around `sigtimedwait`: the signals it cares about are blocked and taken one by
one, so nothing happens between its lines. It has no threads, no event loop and no clients, which
makes it safe to fork from.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zaqar_notify.operations.certificate import RELOAD

READY = signal.SIGUSR1
"""The signal that a process sends its parent when it is ready."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, READY)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
"""Before a process that ended is started again; doubled each time it ends soon after its start."""

SOON_SECONDS = 10.0

KILL_SECONDS = 5.0
"""How much longer than its own time for stopping a process may take."""

_PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


@dataclass
class _Place:
    """One of the processes, or its successor. Instants are of the monotonic clock."""

    number: int
    pid: int = 0
    """0: none is running."""
    started_at: float = 0.0
    start_at: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS


class Supervisor:
    def __init__(
        self,
        work: Callable[[int], None],
        *,
        count: int,
        stop_seconds: float,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        on_reload: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to run `work` in `count` processes.

        Args:
            work: Calls `tell_ready` once, and returns after SIGTERM. It is given its place, from 0;
                one that takes another's place is given the same.
            stop_seconds: How long that takes at most.
            on_ready: Called when the first process is ready; the others are started then.
            on_stop: Called when the processes have been told to stop.
            on_reload: Called at SIGHUP, which is then passed on to the processes. They ignore it
                until they handle it. None: SIGHUP ends the process, as ever.
        """
        self._work = work
        self._places = [_Place(number) for number in range(count)]
        self._stop_seconds = stop_seconds
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._on_reload = on_reload
        self._signals = SIGNALS if on_reload is None else (*SIGNALS, RELOAD)
        self._is_ready = False
        self._stopping_since: float | None = None
        self._exit_code = 0

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, or until the first process ends without getting ready.

        Raises:
            SystemExit: At the end, in the parent: 0 when all stopped as they should. In the children
                too, unless `work` raises another error.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        while True:
            self._start_due()
            received = signal.sigtimedwait(self._signals, self._seconds_to_next())
            if received is not None:
                self._heed(received.si_signo)
            self._reap()
            if self._stopping_since is not None:
                self._kill_overdue(self._stopping_since)
                if not any(place.pid for place in self._places):
                    raise SystemExit(self._exit_code)

    def _heed(self, number: int) -> None:
        if number == READY:
            self._note_ready()
        elif number == RELOAD and self._on_reload is not None:
            self._on_reload()
            self._pass_on(RELOAD)
        elif number != signal.SIGCHLD:
            self._stop()

    def _start_due(self) -> None:
        if self._stopping_since is not None:
            return
        wanted = self._places if self._is_ready else self._places[:1]
        for place in wanted:
            if not place.pid and place.start_at <= time.monotonic():
                self._start(place)

    def _start(self, place: _Place) -> None:
        parent = os.getpid()
        place.started_at = time.monotonic()
        place.pid = os.fork()
        if place.pid == 0:
            _become_child(parent, self._signals)
            self._work(place.number)
            raise SystemExit(0)

    def _seconds_to_next(self) -> float:
        now = time.monotonic()
        if self._stopping_since is not None:
            return max(0.0, self._stopping_since + self._stop_seconds + KILL_SECONDS - now)
        waiting = [place.start_at for place in self._places if self._is_ready and not place.pid]
        return max(0.0, min(waiting, default=now + LONGEST_PAUSE_SECONDS) - now)

    def _note_ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self._on_ready()

    def _stop(self) -> None:
        """Pass the signal on; a second one means "at once", to the processes as well."""
        self._pass_on(signal.SIGTERM)
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self._on_stop()

    def _pass_on(self, number: int) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)

    def _reap(self) -> None:
        while any(place.pid for place in self._places):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            # As process 1 of a container it inherits others' orphans, too.
            place = next((place for place in self._places if place.pid == pid), None)
            if place is not None:
                place.pid = 0
                self._note_end(place, pid, os.waitstatus_to_exitcode(status))

    def _note_end(self, place: _Place, pid: int, exit_code: int) -> None:
        if self._stopping_since is not None:
            # One that had not got as far as handling the signal has nothing to finish.
            if exit_code not in (0, -signal.SIGTERM):
                self._exit_code = 1
            return
        if not self._is_ready:
            self._exit_code = exit_code or 1
            self._stop()
            return
        now = time.monotonic()
        if now - place.started_at > SOON_SECONDS:
            place.pause_seconds = FIRST_PAUSE_SECONDS
        place.start_at = now + place.pause_seconds
        logger.warning(
            "A process has ended; another takes its place",
            extra={
                "action": "process_ended",
                "pid": pid,
                "exit_code": exit_code,
                "pause_seconds": place.pause_seconds,
            },
        )
        place.pause_seconds = min(place.pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    def _kill_overdue(self, since: float) -> None:
        if time.monotonic() < since + self._stop_seconds + KILL_SECONDS:
            return
        for place in self._places:
            if place.pid:
                os.kill(place.pid, signal.SIGKILL)


def tell_ready() -> None:
    """Said by a process whose work has begun."""
    os.kill(os.getppid(), READY)


def _become_child(parent: int, signals: Sequence[int]) -> None:
    # Ctrl-C reaches all processes of a terminal; only the parent's word counts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if RELOAD in signals:
        signal.signal(RELOAD, signal.SIG_IGN)
    # Should the parent be killed, its processes must not go on unsupervised.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    if os.getppid() != parent:
        raise SystemExit(1)
