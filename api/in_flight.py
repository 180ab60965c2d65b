"""Bounds on the requests of a process that are being answered: their number, and their bodies.

Past a bound a request is refused at once, before memory grows, and those under way go on. A project
alone never has all: `Budget` keeps a part for the next project. A long poll that waits is not
counted, because it needs little but its connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import NoReturn
from weakref import WeakValueDictionary

from zaqar_notify.errors import Overloaded
from zaqar_notify.rules.sharing import Budget

logger = logging.getLogger(__name__)


SMALL_BYTES = 4096
"""Bodies up to this are bounded by the number of requests."""


class LargeBodies:
    """Turns of requests with large bodies, each in its own round of the event loop.

    To read a body of many messages takes some 100 ms of the loop. A hundred that arrive together would stop every
    other request until all are read. Projects take turns, too.
    """

    def __init__(self) -> None:
        self._all = asyncio.Lock()
        self._of_project: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def turn(self, project: str) -> None:
        """Wait for the project's turn, and let all other ready work run once before it."""
        own = self._of_project.get(project)
        if own is None:
            own = self._of_project[project] = asyncio.Lock()
        async with own, self._all:
            await asyncio.sleep(0)


class InFlight:
    """The requests of one process that are being answered."""

    def __init__(
        self, *, most_requests: int, most_body_bytes: int, overloads: Counter[str]
    ) -> None:
        """`overloads` counts refusals by reason: `requests`, `bodies` and `callers`."""
        self.requests = Budget(most_requests)
        self.bodies = Budget(most_body_bytes)
        self.large_bodies = LargeBodies()
        self.unnamed = 0
        """Requests whose project is not known yet, or that need none."""
        self._overloads = overloads

    @property
    def count(self) -> int:
        return self.requests.used + self.unnamed

    def begin(self) -> Admitted:
        """Count a request. The caller must end it.

        Raises:
            Overloaded: There are too many.
        """
        if self.unnamed + self.requests.used >= self.requests.total:
            self.refuse("requests", self.requests.total)
        self.unnamed += 1
        return Admitted(self)

    def refuse(self, reason: str, most: int) -> NoReturn:
        self._overloads[reason] += 1
        logger.warning(
            "A request is refused, because the process has too many under way",
            extra={"action": "overloaded", "reason": reason, "most": most},
        )
        raise Overloaded


class Admitted:
    """A request that is being answered, as it counts in `InFlight`."""

    _project: str | None = None
    _body_bytes = 0
    _is_counted = True

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight

    def belongs_to(self, project: str) -> None:
        """Count it as one of the project's.

        Raises:
            Overloaded: The project has its share.
        """
        in_flight = self._in_flight
        if not in_flight.requests.has_room_for(project):
            in_flight.refuse("requests", in_flight.requests.total)
        in_flight.unnamed -= 1
        in_flight.requests.take(project)
        self._project = project

    def hold(self, size: int) -> None:
        """Count its body, which has arrived whole; a small one is counted with its request.

        Raises:
            Overloaded: There are too many bytes, or the project has its share of them.
        """
        if size <= SMALL_BYTES:
            return
        bodies, project = self._in_flight.bodies, self._project or ""
        if size > bodies.free or not bodies.has_room_for(project):
            self._in_flight.refuse("bodies", bodies.total)
        bodies.take(project, size)
        self._body_bytes = size

    async def turn(self) -> None:
        """Wait until its large body may be read."""
        await self._in_flight.large_bodies.turn(self._project or "")

    def rest(self) -> None:
        """Count it no more, since it waits. When it goes on, it is not refused."""
        if self._is_counted:
            self._is_counted = False
            if self._project is None:
                self._in_flight.unnamed -= 1
            else:
                self._in_flight.requests.give(self._project)

    def end(self) -> None:
        self.rest()
        if self._body_bytes:
            self._in_flight.bodies.give(self._project or "", self._body_bytes)
            self._body_bytes = 0
