"""A change of keys: messages and subscriptions under other keys are encrypted again under the first key.

It may be broken off, repeated, and run beside other processes: a step changes only those that are still as it
read them, so a deletion, claim or change by another process stays. Until it is done, all keys are needed.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from zaqar_notify.findings import Finding, ok, problem
from zaqar_notify.rules.encryption import Keyring

AT_ONCE = 100
"""Messages or subscriptions of one write."""
AT_ONCE_BYTES = 1 << 20
"""Of their bodies; the last one may be longer."""
PAUSE = 1.0
"""After each write, so many times as long as it took: others have work, too."""


class Step(msgspec.Struct, frozen=True):
    """One write of a change of keys: `done` were encrypted anew, `locked` can't be decrypted. The next one
    goes on behind `after`; None: there are no more."""

    done: int
    locked: int
    after: Any | None


class Encrypted(ABC):
    """Of one kind of things in a store: which of them are encrypted, and under which keys."""

    @abstractmethod
    async def key_ids(self) -> Sequence[str]:
        """The ids of the keys under which some are, in order; the cost does not grow with their number."""

    @abstractmethod
    async def reseal(self, key_id: str, *, after: Any | None, limit: int) -> Step:
        """Encrypt up to `limit` that are under this key under the first one, in an order of the store.

        Each is changed if it is as it was read; expired ones, and those of deleted queues, count, too.
        """


class Rekeyed(msgspec.Struct):
    """The result of a change of keys to `key_id`.

    `unused` are keys of the settings under which nothing is any more; `missing` those that the settings lack
    and something is under; of `locked` things there is the key, and they are damaged.
    """

    key_id: str
    done: int = 0
    locked: int = 0
    unused: list[str] = []
    missing: list[str] = []


async def rekey(
    parts: Sequence[Encrypted], keys: Keyring, *, progress: Callable[[int], None]
) -> Rekeyed:
    """Encrypt everything under the first key. `progress` gets the number that is done so far."""
    result = Rekeyed(keys.ids[0])
    for part in parts:
        for key_id in await part.key_ids():
            if key_id in keys.ids[1:]:
                await _rekey(part, key_id, result, progress)
    in_use = await key_ids(parts)
    result.unused = [key_id for key_id in keys.ids[1:] if key_id not in in_use]
    result.missing = missing(in_use, keys)
    return result


async def _rekey(
    part: Encrypted, key_id: str, result: Rekeyed, progress: Callable[[int], None]
) -> None:
    """Until a pass finds nothing to do: a message may have moved to a place that was passed already."""
    while True:
        before, locked, after = result.done, 0, None
        while True:
            began = time.monotonic()
            step = await part.reseal(key_id, after=after, limit=AT_ONCE)
            result.done += step.done
            locked += step.locked
            after = step.after
            progress(result.done)
            if after is None:
                break
            await asyncio.sleep(PAUSE * (time.monotonic() - began))
        if result.done == before:
            result.locked += locked
            return


async def key_ids(parts: Sequence[Encrypted]) -> list[str]:
    """The ids of all keys in use."""
    return sorted({key_id for part in parts for key_id in await part.key_ids()})


def missing(in_use: Sequence[str], keys: Keyring) -> list[str]:
    """Those of the keys in use that the settings lack."""
    return [key_id for key_id in in_use if key_id not in keys.ids]


def findings(in_use: Sequence[str], keys: Keyring) -> list[Finding]:
    """The doctor's findings about the keys in use."""
    if not in_use:
        return []
    lacking = missing(in_use, keys)
    if lacking:
        return [
            problem(
                "encryption",
                f"Something is encrypted under {_named(lacking)}, and ZAQAR_ENCRYPTION_KEYS lacks that: it can't "
                "be read, and deliveries of it wait",
                "Add the key again, behind the others",
            )
        ]
    sentence = f"Keys in use: {_named(in_use)}"
    if list(in_use) != [keys.ids[0]]:
        sentence += f"; `zaqar-notify rekey` leaves {keys.ids[0]!r} alone"
    return [ok("encryption", sentence)]


def _named(key_ids: Sequence[str]) -> str:
    return ", ".join(repr(key_id[:32]) for key_id in key_ids)
