"""Revocations of pre-signed URLs in Redis."""

from __future__ import annotations

from datetime import datetime

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.redis.control.writing import Check, Command, Writing
from zaqar_notify.storage.shares import MOST_RECORDS, Shares
from zaqar_notify.storage.values import to_ms

ALL_QUEUES = ""
"""In place of a queue's name; no queue has it."""


class RedisShares(Shares):
    def __init__(self, writing: Writing) -> None:
        self._writing = writing

    async def generation(self, ref: QueueRef) -> int:
        found = await self._writing.get_many(self._of(ref.project), [ref.name, ALL_QUEUES])
        return max(int(each or 0) for each in found)

    async def revoke(self, ref: QueueRef, *, now: datetime) -> None:
        shares = self._of(ref.project)
        while True:
            own, of_all = await self._writing.get_many(shares, [ref.name, ALL_QUEUES])
            generation = max(to_ms(now), int(own or 0) + 1, int(of_all or 0) + 1)
            checks = [Check(shares, ref.name, own), Check(shares, ALL_QUEUES, of_all)]
            if await self._writing.write(checks, [("HSET", shares, ref.name, generation)]):
                break
        await self._replace_many(shares)

    async def _replace_many(self, shares: str) -> None:
        """Let one record for all queues take the place of too many."""
        while int(await self._writing.ask("HLEN", shares)) > MOST_RECORDS:
            records = await self._writing.get_all(shares)
            latest = max(map(int, records.values())) + 1
            # A record that was made or raised meanwhile lies below this one, or stays: those that were read go.
            checks = [Check(shares, name, value) for name, value in records.items()]
            commands: list[Command] = [("HDEL", shares, *(each.field for each in checks))]
            commands.append(("HSET", shares, ALL_QUEUES, latest))
            if await self._writing.write(checks, commands):
                return

    def _of(self, project: str) -> str:
        return self._writing.key("shares", project)
