"""Clients that produce, observe and consume while the service is killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import msgspec

from tests.faults.history import (
    Claimed,
    Deleted,
    History,
    LeaseLost,
    Listed,
    Observed,
    Posted,
    Released,
    Renewed,
    Unanswered,
)
from tests.faults.wire import Answer, Wire
from zaqar_notify.clock import new_id

LEASE_SECONDS = 300
"""Longer than a short run: a lease that ends by itself would hide one that was lost."""

SHORTEST_LEASE_SECONDS = 60
THINK_SECONDS = 0.04
PARITY, EVEN = "parity", "even"
OBSERVED, CONSUMED, RELAYED = "events", "jobs", "copies"


class Found(msgspec.Struct):
    """A message as pages and claims show it."""

    id: str
    href: str
    body: str

    @property
    def claim_id(self) -> str:
        return self.href.partition("?claim_id=")[2]


class Link(msgspec.Struct):
    rel: str
    href: str


class FoundPage(msgspec.Struct):
    messages: list[Found]
    links: list[Link] = msgspec.field(default_factory=list)


class Totals(msgspec.Struct):
    total: int


class Stats(msgspec.Struct):
    messages: Totals


class Subscribed(msgspec.Struct):
    subscription_id: str


_page = msgspec.json.Decoder(FoundPage).decode
_stats = msgspec.json.Decoder(Stats).decode


def parity_of(key: str) -> str:
    """The value of the attribute `PARITY` of the message with this key, which ends in a number."""
    return EVEN if key[-1] in "02468" else "odd"


class Workload:
    """The parts that clients play. They end, one kind after the other, once `stop` is called.

    Args:
        lapses: Some consumers forget claims, whose messages come back when the lease has ended.
        think_seconds: A client's own work between two requests takes so long at most.
    """

    def __init__(
        self,
        history: History,
        chance: random.Random,
        *,
        lapses: bool,
        think_seconds: float = THINK_SECONDS,
    ) -> None:
        self._history = history
        self._chance = chance
        self._lapses = lapses
        self._think_seconds = think_seconds
        self._claim_ids: set[str] = set()
        self._is_stopping = asyncio.Event()
        self._no_more_posts = asyncio.Event()
        self.adopted_claims = 0

    def stop(self) -> None:
        """Let every producer finish the post that it is at."""
        self._is_stopping.set()

    def posts_are_over(self) -> None:
        """Let observers and consumers end when they find nothing more."""
        self._no_more_posts.set()

    async def produce(self, wire: Wire, queue: str, name: str, *, has_keys: bool) -> None:
        """Post numbered messages one post after another.

        With idempotency keys each is posted until it is acknowledged, otherwise once.
        """
        number = 0
        while not self._is_stopping.is_set():
            size = self._chance.choice((1, 1, 1, 2, 5))
            keys = [f"{name}:{n}" for n in range(number, number + size)]
            number += size
            path = f"/v2/queues/{queue}/messages"
            messages = [
                {"body": key, "ttl": 3600, "attributes": {PARITY: parity_of(key)}} for key in keys
            ]
            document = {"messages": messages}
            ask = wire.ask if has_keys else wire.ask_once
            headers = {"Idempotency-Key": new_id()} if has_keys else {}
            answer = await ask("POST", path, document, headers=headers, expected={201})
            if answer is None:
                self._history.record(Unanswered(queue, keys))
            else:
                self._history.record(
                    Posted(queue, keys, answer.first_asked_at, answer.answered_at, answer.tries)
                )
            await self._think()

    async def pause_and_resume(self, wire: Wire, subscription: str) -> None:
        """Pause a subscription of the observed queue and resume it, again and again; it is resumed at the end."""
        path = f"/v2/queues/{OBSERVED}/subscriptions/{subscription}"
        while not self._is_stopping.is_set():
            for verb, most_seconds in (("pause", 1.5), ("resume", 1.0)):
                await wire.ask("POST", f"{path}/{verb}", expected={200})
                await self._until_stopping(self._chance.uniform(0.1, most_seconds))
        await wire.ask("POST", f"{path}/resume", expected={200})

    async def _until_stopping(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_stopping.wait()

    async def observe(self, wire: Wire, name: str, *, wait: int) -> None:
        """Read the queue page by page, from its beginning, by `next` links alone."""
        path = f"/v2/queues/{OBSERVED}/messages?limit=20&echo=true&wait={wait}"
        while True:
            is_last_look = self._no_more_posts.is_set()
            answer = await wire.ask("GET", path, expected={200})
            page = _page(answer.body)
            keys = [message.body for message in page.messages]
            if keys:
                self._history.record(Observed(name, OBSERVED, keys, answer.answered_at))
            if page.links:
                path = page.links[0].href
            elif is_last_look:
                return
            elif not wait:
                await self._think()

    async def consume(self, wire: Wire, name: str, *, wait: int) -> None:
        """Claim messages and delete them, sometimes after a renewal, sometimes not all of them."""
        while True:
            is_last_look = self._no_more_posts.is_set()
            if await self._claim(wire, name, wait=wait):
                continue
            if is_last_look:
                return
            if not wait:
                await self._think()

    async def consume_the_rest(self, wire: Wire, *, within_seconds: float) -> None:
        """Consume until the queue is empty, after every other consumer has ended.

        A claim of a process that was killed before it answered has no holder: it is found by
        reading the queue, and released.

        Raises:
            TimeoutError: Messages are left and can't be claimed.
        """
        async with asyncio.timeout(within_seconds):
            while await self.total(wire, CONSUMED):
                async for message in self._read(wire, CONSUMED):
                    if message.claim_id and message.claim_id not in self._claim_ids:
                        await self._release(wire, message.claim_id)
                        self._claim_ids.add(message.claim_id)
                        self.adopted_claims += 1
                if not await self._claim(wire, "last", wait=0, is_thorough=True):
                    await self._think()

    async def take_stock(self, wire: Wire, queue: str) -> None:
        """Record all that is on a queue."""
        keys = [message.body async for message in self._read(wire, queue)]
        self._history.record(Listed(queue, keys))

    async def has_total(self, wire: Wire, queue: str, total: int, *, within_seconds: float) -> bool:
        """Wait until at least `total` messages are on the queue."""
        try:
            async with asyncio.timeout(within_seconds):
                while await self.total(wire, queue) < total:
                    await self._think()
        except TimeoutError:
            return False
        return True

    async def total(self, wire: Wire, queue: str) -> int:
        answer = await wire.ask("GET", f"/v2/queues/{queue}/stats", expected={200})
        return _stats(answer.body).messages.total

    async def _claim(
        self, wire: Wire, consumer: str, *, wait: int, is_thorough: bool = False
    ) -> bool:
        """One claim and its end; whether there was something to claim."""
        does = "delete" if is_thorough else self._choose()
        ttl = SHORTEST_LEASE_SECONDS if does == "forget" else LEASE_SECONDS
        answer = await wire.ask(
            "POST",
            f"/v2/queues/{CONSUMED}/claims?limit=10&wait={wait}",
            {"ttl": ttl, "grace": 60},
            expected={201, 204},
        )
        if answer.status == 204:
            return False
        messages = _page(answer.body).messages
        claim_id = messages[0].claim_id
        self._claim_ids.add(claim_id)
        keys = [message.body for message in messages]
        self._history.record(
            Claimed(consumer, claim_id, CONSUMED, keys, answer.asked_at, answer.answered_at, ttl)
        )
        if does == "renew":
            await self._renew(wire, claim_id)
        if does == "release":
            await self._delete(wire, messages[: len(messages) // 2])
            await self._release(wire, claim_id)
        elif does != "forget":
            await self._delete(wire, messages)
        return True

    def _choose(self) -> str:
        others = ("renew", "release", "forget") if self._lapses else ("renew", "release")
        return self._chance.choice(others) if self._chance.random() < 0.3 else "delete"

    async def _renew(self, wire: Wire, claim_id: str) -> None:
        answer = await wire.ask(
            "PATCH",
            f"/v2/queues/{CONSUMED}/claims/{claim_id}",
            {"ttl": LEASE_SECONDS, "grace": 60},
            expected={204, 404},
        )
        if answer.status == 204:
            # A try without an answer may have been the last to take effect.
            self._history.record(Renewed(claim_id, answer.first_asked_at, LEASE_SECONDS))
        else:
            self._lose(claim_id, answer)

    async def _release(self, wire: Wire, claim_id: str) -> None:
        path = f"/v2/queues/{CONSUMED}/claims/{claim_id}"
        answer = await wire.ask("DELETE", path, expected={204})
        self._history.record(Released(claim_id, answer.first_asked_at))

    async def _delete(self, wire: Wire, messages: list[Found]) -> None:
        """Delete messages of one claim: each by itself, or all at once."""
        if len(messages) > 1 and self._chance.random() < 0.3:
            ids = ",".join(message.id for message in messages)
            path = f"/v2/queues/{CONSUMED}/messages?ids={ids}&claim_ids={messages[0].claim_id}"
            self._deleted(messages, await wire.ask("DELETE", path, expected={204, 400, 403}))
            return
        for message in messages:
            answer = await wire.ask("DELETE", message.href, expected={204, 400, 403})
            self._deleted([message], answer)

    def _deleted(self, messages: list[Found], answer: Answer) -> None:
        if answer.status != 204:
            self._lose(messages[0].claim_id, answer)
            return
        for message in messages:
            self._history.record(
                Deleted(message.claim_id, message.body, answer.first_asked_at, answer.answered_at)
            )

    def _lose(self, claim_id: str, answer: Answer) -> None:
        self._history.record(LeaseLost(claim_id, answer.answered_at))

    async def _read(self, wire: Wire, queue: str) -> AsyncIterator[Found]:
        """Every message of the queue, claimed ones too."""
        path = f"/v2/queues/{queue}/messages?limit=20&echo=true&include_claimed=true"
        while path:
            answer = await wire.ask("GET", path, expected={200})
            page = _page(answer.body)
            for message in page.messages:
                yield message
            path = page.links[0].href if page.links else ""

    async def _think(self) -> None:
        """A client's own work between two requests."""
        await asyncio.sleep(self._chance.uniform(0, self._think_seconds))


def subscription_id(body: bytes) -> str:
    """The id in the answer to a subscription."""
    return msgspec.json.decode(body, type=Subscribed).subscription_id
