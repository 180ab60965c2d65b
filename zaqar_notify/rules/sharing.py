"""The share of a budget that one project may have, so that some is left for the next project.

A project may have more while it has less than `SHARE` times the free amount. So a lone project gets
three quarters, two get three sevenths each, and the next one always finds something. No project's
share is known beforehand, and none is kept for a project that asks for nothing.

Source: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998.
"""

from __future__ import annotations

from collections.abc import Callable

SHARE = 3


class Budget:
    """A fixed amount of slots, jobs or bytes, and how much of it each project has."""

    def __init__(self, total: int, most_of: Callable[[str], int] | None = None) -> None:
        """`most_of` gives the quota of a project, which bounds its share; 0: none."""
        self.total = total
        self._most_of = most_of
        self.used = 0
        # Requests take and give: a Counter would call `__missing__` for each of a lone project.
        self._by_project: dict[str, int] = {}

    @property
    def free(self) -> int:
        return self.total - self.used

    def take(self, project: str, amount: int = 1) -> None:
        self.used += amount
        self._by_project[project] = self._by_project.get(project, 0) + amount

    def give(self, project: str, amount: int = 1) -> None:
        self.used -= amount
        left = self._by_project[project] - amount
        if left:
            self._by_project[project] = left
        else:
            del self._by_project[project]

    def has_room_for(self, project: str) -> bool:
        has = self._by_project.get(project, 0)
        most = self._most_of(project) if self._most_of is not None else 0
        return has < SHARE * (self.total - self.used) and (not most or has < most)

    def full(self) -> frozenset[str]:
        """The projects that may not have more now."""
        return frozenset(each for each, has in self._by_project.items() if has >= SHARE * self.free)
