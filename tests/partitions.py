"""Partitions of the one pool that there is."""

from __future__ import annotations

from zaqar_notify.storage.internal import DEFAULT_POOL, Partition


def partition(number: int = 0) -> Partition:
    return Partition(DEFAULT_POOL, number)
