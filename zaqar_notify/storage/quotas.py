"""The contract of a store of projects' own quotas; a part of the control store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeAlias

Values: TypeAlias = Mapping[str, int]
"""Quotas that a project has of its own, by name."""


class QuotaRecords(ABC):
    """Projects' own quotas. They are few, and change seldom: every process knows all of them."""

    @abstractmethod
    async def get(self, project: str) -> Values:
        """Those of the project; empty: it has none of its own."""

    @abstractmethod
    async def change(self, project: str, values: Mapping[str, int | None]) -> Values:
        """Set these values, or remove those that are None, atomically; return all of the project.

        The revision is raised after the change can be read. If the process ends between the two, other
        processes learn of the change with the next one.
        """

    @abstractmethod
    async def revision(self) -> int:
        """How many changes there were. One read by key, however many projects there are."""

    @abstractmethod
    async def all(self) -> Mapping[str, Values]:
        """Those of all projects."""
