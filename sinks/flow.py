"""The rate of mails: as many at once as the carrier bears, and projects in turn.

Trouble that the operator can mend pauses all mail. Each pause is longer than the last, until a mail goes
through; then the number of mails at once grows again. A mail that cannot have a turn soon comes back later:
it waits in memory for a moment only, and spends no try.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random as system_random
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from sinks.carrier import Trouble
from zaqar_notify.models import Outcome, Verdict

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""How long a mail waits in memory for its turn."""

MAX_WAITING = 256
"""The most mails that wait for a turn. One project may use half of the places that the others leave."""

FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 300.0

CROWDED_SECONDS = 60.0
"""After a refused further connection, none is tried for so long."""

LONGEST_WAIT_SECONDS = 900.0
"""The longest time until a mail without a turn comes back."""

MAX_PROJECTS = 1000
"""Projects whose pace and bookings are remembered; idle ones are forgotten first."""

PROBES = 2
"""Mails at once, of two projects, that probe whether trouble is over."""


class _Pause:
    """A pause of one kind of mail."""

    __slots__ = ("detail", "failures", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.failures = 0
        self.detail = ""


class _Project:
    """The pace of a project's mails: the carrier may take long over them."""

    __slots__ = ("booked_until", "pace_seconds", "running")

    def __init__(self) -> None:
        self.running = 0
        self.pace_seconds = 0.0
        self.booked_until = 0.0


class Flow:
    def __init__(
        self,
        most: int,
        *,
        timer: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        self._most = most
        self._timer = timer
        self._random = random
        self._limit = most
        self._running = 0
        self._projects: OrderedDict[str, _Project] = OrderedDict()
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._pauses: dict[str, _Pause] = {}
        self._crowded_until = 0.0

    @property
    def troubles(self) -> list[str]:
        """Why mails wait now, in our own words."""
        return [pause.detail for pause in self._pauses.values()]

    def is_paused(self, kind: str) -> bool:
        """Whether mails of the kind wait for the end of a trouble."""
        return self._paused_until(kind) > self._timer()

    async def pass_on(
        self, project: str, kind: str, hand_over: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        """Hand a mail over when it is the project's turn; postpone it when the turn does not come soon.

        Args:
            kind: A kind of mail that can be in trouble by itself: the sender.
        """
        if self.is_paused(kind) or not await self._turn(project):
            return self._postponed(project, kind)
        try:
            if self.is_paused(kind):
                return self._postponed(project, kind)
            began = self._timer()
            outcome = await hand_over()
            self._learn(outcome, project, kind, began)
            return outcome
        except Trouble as trouble:
            return self.slow_down(trouble, project)
        finally:
            self._end_turn(project)

    def slow_down(self, trouble: Trouble, project: str) -> Outcome:
        """Let all mail of the trouble's kind wait; this one, too."""
        now = self._timer()
        if trouble.working:
            self._limit = max(1, min(self._limit, trouble.working))
            self._crowded_until = now + CROWDED_SECONDS
        else:
            self._pause(trouble, now)
        return self._postponed(project, trouble.kind, trouble)

    def _pause(self, trouble: Trouble, now: float) -> None:
        pause = self._pauses.setdefault(trouble.kind, _Pause())
        if now < pause.until:
            return  # This mail was under way when the pause began.
        pause.failures += 1
        seconds = min(FIRST_PAUSE_SECONDS * 2 ** (pause.failures - 1), LONGEST_PAUSE_SECONDS)
        pause.until = now + seconds
        if not trouble.kind:
            self._limit = min(PROBES, self._most)
        if pause.detail != trouble.detail:
            pause.detail = trouble.detail
            logger.log(
                logging.ERROR if (trouble.status or 0) >= 500 else logging.WARNING,
                "Mails wait until this is mended; none of their tries is spent",
                extra={
                    "action": "mail_slowed",
                    "detail": trouble.detail,
                    "status": trouble.status,
                    "sender": trouble.kind,
                },
            )

    def _learn(self, outcome: Outcome, project: str, kind: str, began: float) -> None:
        """Learn from a mail that was handed over, delivered or not."""
        now = self._timer()
        theirs = self._project(project)
        theirs.pace_seconds += (now - began - theirs.pace_seconds) / (1 + self._limit)
        has_no_answer = outcome.verdict is Verdict.TRY_LATER and outcome.status is None
        if has_no_answer or began < self._paused_until(kind):
            return  # It was under way before the trouble, and proves nothing about it.
        if self._limit < self._most and now >= self._crowded_until:
            self._limit += 1
        for passed in ("", kind):
            pause = self._pauses.pop(passed, None)
            if pause is not None:
                logger.info(
                    "Mails go through again",
                    extra={"action": "mail_resumed", "detail": pause.detail, "sender": passed},
                )

    def _paused_until(self, kind: str) -> float:
        pauses = (self._pauses.get(""), self._pauses.get(kind))
        return max((pause.until for pause in pauses if pause), default=0.0)

    async def _turn(self, project: str) -> bool:
        """Wait a moment for a turn; the caller gives it back."""
        if project not in self._lines and self._may_run(project):
            self._begin_turn(project)
            return True
        if not self._may_wait(project):
            return False
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(project, deque()).append(turn)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await turn
        except TimeoutError:
            self._leave_line(project, turn)
            return False
        except BaseException:
            self._leave_line(project, turn)
            raise
        return True

    def _may_run(self, project: str) -> bool:
        """A project has at most half of the turns that the others leave, so its hanging mails do not stop them."""
        return self._project(project).running < self._limit - self._running

    def _may_wait(self, project: str) -> bool:
        own = len(self._lines.get(project, ()))
        left = MAX_WAITING - sum(map(len, self._lines.values()))
        return own < left and (own + 1) * self._turn_seconds(project) <= PATIENCE_SECONDS

    def _turn_seconds(self, project: str) -> float:
        """The expected time between two mails of the project."""
        return self._project(project).pace_seconds * max(1, len(self._lines)) / self._limit

    def _project(self, name: str) -> _Project:
        found = self._projects.setdefault(name, _Project())
        self._projects.move_to_end(name)
        if len(self._projects) > MAX_PROJECTS:
            oldest, state = next(iter(self._projects.items()))
            if state.running:
                self._projects.move_to_end(oldest)
            else:
                del self._projects[oldest]
        return found

    def _leave_line(self, project: str, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():  # The turn was given at this very moment.
            self._end_turn(project)
            return
        line = self._lines.get(project, deque())
        if turn in line:  # If not, its turn came and was skipped.
            line.remove(turn)
        if not line:
            self._lines.pop(project, None)

    def _begin_turn(self, project: str) -> None:
        self._project(project).running += 1
        self._running += 1

    def _end_turn(self, project: str) -> None:
        self._project(project).running -= 1
        self._running -= 1
        while (following := next(filter(self._may_run, self._lines), None)) is not None:
            self._give_turn(following)

    def _give_turn(self, project: str) -> None:
        """Give a turn to the first mail of the project; the other projects are next."""
        line = self._lines[project]
        turn = line.popleft()
        if line:
            self._lines.move_to_end(project)
        else:
            del self._lines[project]
        if not turn.done():
            self._begin_turn(project)
            turn.set_result(None)

    def _postponed(self, project: str, kind: str, trouble: Trouble | None = None) -> Outcome:
        return Outcome(
            Verdict.POSTPONED,
            trouble.status if trouble else None,
            trouble.detail if trouble else "other mails are before it",
            retry_after_seconds=self._wait_seconds(project, kind),
            excerpt=trouble.excerpt if trouble else "",
        )

    def _wait_seconds(self, project: str, kind: str) -> int:
        """The time until the mail comes back: after the pause, with an instant of its own."""
        now = self._timer()
        begin = max(now, self._paused_until(kind))
        theirs = self._project(project)
        turn = max(begin, now + 1, theirs.booked_until)
        if turn - begin >= LONGEST_WAIT_SECONDS:
            return math.ceil(begin - now + LONGEST_WAIT_SECONDS * (1 + self._random()) / 2)
        theirs.booked_until = turn + self._turn_seconds(project)
        return math.ceil(turn - now)
