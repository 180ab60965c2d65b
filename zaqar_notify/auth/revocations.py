"""Revocations of pre-signed URLs, as a process knows them."""

from __future__ import annotations

from collections.abc import Callable

from zaqar_notify.auth.remembered import Remembered
from zaqar_notify.clock import running_seconds
from zaqar_notify.errors import SignatureRefused
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.shares import Shares

KNOWN_SECONDS = 3.0
"""For so long after a revocation, other processes may still take a revoked URL."""
MOST_KNOWN = 10_000
"""Queues; a few hundred bytes each."""


class Revocations:
    """Which generation of a queue's pre-signed URLs counts."""

    def __init__(self, shares: Shares, *, now: Callable[[], float] = running_seconds) -> None:
        self._generations: Remembered[QueueRef, int] = Remembered(
            shares.generation, seconds=KNOWN_SECONDS, unknown_seconds=0, most=MOST_KNOWN, now=now
        )

    async def check(self, ref: QueueRef, generation: int) -> None:
        """Refuse a generation that was revoked. Ask only with one that was truly signed: a later one than is known
        makes this ask the store.

        Raises:
            SignatureRefused: It was revoked.
        """
        known = await self._generations.get(ref)
        if known is not None and generation > known:
            self._generations.forget(ref)
            known = await self._generations.get(ref)
        if generation != known:
            raise SignatureRefused
