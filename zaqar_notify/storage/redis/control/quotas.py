"""Projects' own quotas in Redis."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from zaqar_notify.models import INTERNAL_PROJECT
from zaqar_notify.storage.quotas import QuotaRecords, Values
from zaqar_notify.storage.redis.control.writing import Check, Writing

CHANGES = INTERNAL_PROJECT
"""The field that counts changes; no client's project has this name."""


class RedisQuotaRecords(QuotaRecords):
    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._quotas = writing.key("quotas")

    async def get(self, project: str) -> Values:
        found = await self._writing.get(self._quotas, project)
        return {} if found is None else _decode(found)

    async def change(self, project: str, values: Mapping[str, int | None]) -> Values:
        while True:
            present = await self._writing.get(self._quotas, project)
            before = {} if present is None else _decode(present)
            after = {
                name: value for name, value in {**before, **values}.items() if value is not None
            }
            changed = await self._writing.write(
                [Check(self._quotas, project, present)],
                [
                    ("HSET", self._quotas, project, msgspec.msgpack.encode(after)),
                    ("HINCRBY", self._quotas, CHANGES, 1),
                ],
            )
            if changed:
                return after

    async def revision(self) -> int:
        return int(await self._writing.get(self._quotas, CHANGES) or 0)

    async def all(self) -> Mapping[str, Values]:
        found = await self._writing.get_all(self._quotas)
        return {project: _decode(values) for project, values in found.items() if project != CHANGES}


_decode = msgspec.msgpack.Decoder(dict[str, int]).decode
