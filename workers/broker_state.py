"""Whether a worker hears the broker, as its metrics show it."""

from __future__ import annotations

import mmap
from collections import Counter


class BrokerState:
    """Noted by the worker's own process, which has the connection, and seen by its children, too."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Empty: a worker does not ring."""
        self._shared = mmap.mmap(-1, 1)

    @property
    def is_heard(self) -> bool:
        return self._shared[0] == 1

    def note(self, *, is_heard: bool) -> None:
        self._shared[0] = is_heard
