"""Which subscriptions in Redis are encrypted, and under which keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zaqar_notify.errors import SubscriptionLocked
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.redis.control.stored_subscriptions import (
    parts_of,
    subscriber_fields,
    subscriber_of,
)
from zaqar_notify.storage.redis.control.subscription_table import Found, SubscriptionTable
from zaqar_notify.storage.rekeying import Encrypted, Step
from zaqar_notify.storage.sealed_subscriptions import resealed


class EncryptedSubscriptions(Encrypted):
    def __init__(self, table: SubscriptionTable, keys: Keyring) -> None:
        self._table = table
        self._keys = keys

    async def key_ids(self) -> Sequence[str]:
        return await self._table.key_ids()

    async def reseal(self, key_id: str, *, after: Any | None, limit: int) -> Step:
        names = await self._table.names_under(key_id, after=after or "", limit=limit)
        done = locked = 0
        for found in await self._table.read(names):
            try:
                done += await self._reseal(found)
            except SubscriptionLocked:
                locked += 1
        return Step(done, locked, names[-1] if names else None)

    async def _reseal(self, found: Found) -> bool:
        """False: another process changed it meanwhile, so that it is under the first key by that."""
        ref, _ = parts_of(found.name)
        anew = subscriber_fields(resealed(ref, subscriber_of(found.stored), self._keys))
        fields = dict(zip(("subscriber", "options", "key_id"), anew, strict=True))
        stored = msgspec.structs.replace(found.stored, **fields)
        return await self._table.replace(found.name, found, stored)
