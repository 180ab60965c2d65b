"""Copies messages: where they stand is read from Zaqar's databases, their bodies through its API.

Each message is posted under a key of its own that is made of its id in Zaqar, so a copy that was broken off and runs again
stores none twice, whatever was consumed here meanwhile. Subscribers were notified by Zaqar, and are not again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.operations.admin import Site
from zaqar_notify.operations.zaqar.importing.api import IDS_AT_ONCE, ShownMessage, ZaqarApi
from zaqar_notify.operations.zaqar.importing.found import FoundMessage, Odd
from zaqar_notify.operations.zaqar.importing.report import Report
from zaqar_notify.operations.zaqar.importing.sources import Store
from zaqar_notify.storage.base import IdempotencyKey, ReadyPost

KEY_MARGIN_SECONDS = 86_400
"""A key is remembered for so much longer than its message lives, for clocks that differ."""


class Copying:
    """Copies the messages of one queue after another, at most `rate` messages a second."""

    def __init__(
        self,
        site: Site,
        api: ZaqarApi,
        report: Report,
        *,
        rate: int,
        is_dry: bool,
        progress: Callable[[int], None],
    ) -> None:
        self._storage = site.storage
        self._clock = site.clock
        self._has_uuids = site.settings.client_id_uuid_safe == "strict"
        self._api = api
        self._report = report
        self._counts = report.messages
        self._pace = _Pace(rate)
        self._is_dry = is_dry
        self._progress = progress

    async def queue(self, ref: QueueRef, store: Store) -> None:
        """Copy what one of Zaqar's stores has of the queue, in order."""
        batch: list[FoundMessage] = []
        found: AsyncIterator[FoundMessage] = store.messages(ref, now=self._clock.now())
        async for each in found:
            batch.append(each)
            if len(batch) == IDS_AT_ONCE:
                await self._copy(ref, batch, store)
                batch = []
        if batch:
            await self._copy(ref, batch, store)

    async def _copy(self, ref: QueueRef, batch: Sequence[FoundMessage], store: Store) -> None:
        await self._pace.wait_for(len(batch))
        bodies = await self._api.messages(ref, [each.id for each in batch])
        living = [
            (each, bodies[each.id])
            for each in batch
            if each.id in bodies and bodies[each.id].left > 0
        ]
        # Posts that are begun in an order are stored in it, in one write of the store.
        posts = [] if self._is_dry else [self._post(ref, *each) for each in living]
        for error in filter(None, await asyncio.gather(*posts, return_exceptions=True)):
            raise error
        self._counts.copied += len(living)
        await self._note_missing(ref, [each.id for each in batch if each.id not in bodies], store)
        self._counts.claimed += sum(each.is_claimed for each, _ in living)
        self._progress(self._counts.copied)

    async def _note_missing(self, ref: QueueRef, ids: Sequence[str], store: Store) -> None:
        hidden = await store.still_there(ids, now=self._clock.now()) if ids else 0
        self._counts.gone += len(ids) - hidden
        if hidden:
            reason = "Zaqar has it, and its API does not show it"
            for each in ids[:hidden]:
                self._report.note_left_out(
                    Odd("message", ref.project, f"{ref.name}/{each}", reason)
                )

    async def _post(self, ref: QueueRef, found: FoundMessage, shown: ShownMessage) -> None:
        delay = max(0, found.delay - shown.age)
        post = ReadyPost(
            [NewMessage(bytes(shown.body), shown.left, delay)],
            client_id=self._client_id(found.client_id),
            idempotency_key=IdempotencyKey(
                # No client's key has a space.
                f"zaqar {found.id}",
                found.id.encode(),
                shown.left + KEY_MARGIN_SECONDS,
            ),
        )
        await self._storage.post(ref, post, now=self._clock.now())

    def _client_id(self, given: str) -> str:
        """In the form in which requests are compared with it."""
        return given.replace("-", "").lower() if self._has_uuids else given


class _Pace:
    """Keeps the mean rate of messages below a bound."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def wait_for(self, count: int) -> None:
        now = time.monotonic()
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
        self._free_at = max(self._free_at, now) + count / self._rate
