"""Short functions for the steps that the contract tests repeat.

Instants are given as `now=after(59.999)`: so many seconds after `START`, at which everything
happens unless a test says otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.clock import START
from zaqar_notify.clock import new_id
from zaqar_notify.models import (
    Claim,
    DeadLetter,
    JsonObject,
    Message,
    NewMessage,
    Page,
    Posted,
    QueueRef,
    Subscription,
)
from zaqar_notify.storage.base import Carry, IdempotencyKey, Post
from zaqar_notify.storage.planes import Storage
from zaqar_notify.subscriptions import renewal

_subscription_numbers = itertools.count(1)

OUTBOX = QueueRef(project="", name="outbox")

ILL_FORMED_IDS = [
    "",
    " ",
    "0",
    "-1",
    "no-such-id",
    "A" * 5000,
    "9" * 40,
    "ü",
    "a\x00b",
    "../../etc",
    "' OR 1=1 --",
    "%",
]
"""Strings that no store ever gives out as an id or a marker."""


def after(seconds: float) -> datetime:
    """The instant so many seconds after `START`."""
    return START + timedelta(seconds=seconds)


class GivenPost(Post):
    """A post of given messages; it remembers the rules that were applied."""

    def __init__(
        self,
        messages: Sequence[NewMessage],
        *,
        client_id: str = "producer",
        key: IdempotencyKey | None = None,
    ) -> None:
        self.client_id = client_id
        self.idempotency_key = key
        self.applied_rules: list[JsonObject] = []
        self._messages = messages

    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        self.applied_rules.append(rules)
        return self._messages

    def jobs(
        self, rules: JsonObject, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[tuple[QueueRef, NewMessage]]:
        job = {"ids": list(ids), "bodies": [message.body.decode() for message in messages]}
        return [(OUTBOX, NewMessage(body=json.dumps(job).encode(), ttl=86_400))]


class RefusedPost(GivenPost):
    """A post that breaks one of its queue's rules."""

    def __init__(self, refusal: Exception, *, key: IdempotencyKey | None = None) -> None:
        super().__init__([new_message("refused")], key=key)
        self._refusal = refusal

    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        raise self._refusal


def new_message(body: str, *, ttl: int = 3600, delay: int = 0) -> NewMessage:
    return NewMessage(body=json.dumps(body).encode(), ttl=ttl, delay=delay)


def idempotency_key(
    key: str = "key", *, fingerprint: bytes = b"digest", keep_seconds: int = 600
) -> IdempotencyKey:
    return IdempotencyKey(key=key, fingerprint=fingerprint, keep_seconds=keep_seconds)


async def post(
    storage: Storage,
    queue: QueueRef,
    *,
    bodies: Sequence[str],
    ttl: int = 3600,
    delay: int = 0,
    client_id: str = "producer",
    key: IdempotencyKey | None = None,
    now: datetime = START,
) -> Posted:
    messages = [new_message(body, ttl=ttl, delay=delay) for body in bodies]
    return await storage.post(queue, GivenPost(messages, client_id=client_id, key=key), now=now)


async def post_one(
    storage: Storage,
    queue: QueueRef,
    body: str,
    *,
    ttl: int = 3600,
    delay: int = 0,
    now: datetime = START,
) -> str:
    """Post one message and return its id."""
    posted = await post(storage, queue, bodies=[body], ttl=ttl, delay=delay, now=now)
    return posted.ids[0]


async def page(
    storage: Storage,
    queue: QueueRef,
    *,
    marker: str | None = None,
    limit: int = 100,
    now: datetime = START,
    without_client: str | None = None,
    include_claimed: bool = False,
    include_delayed: bool = False,
) -> Page:
    return await storage.messages.page(
        queue,
        marker=marker,
        limit=limit,
        now=now,
        without_client=without_client,
        include_claimed=include_claimed,
        include_delayed=include_delayed,
    )


async def everything(storage: Storage, queue: QueueRef, *, now: datetime = START) -> list[Message]:
    """All messages that have not expired, claimed and delayed ones too, in order."""
    whole = await page(
        storage, queue, limit=1000, now=now, include_claimed=True, include_delayed=True
    )
    return whole.messages


async def get_one(
    storage: Storage, queue: QueueRef, message_id: str, *, now: datetime = START
) -> Message:
    """The message of that id, which must exist."""
    [message] = await storage.messages.get(queue, [message_id], now=now)
    return message


async def claim(
    storage: Storage,
    queue: QueueRef,
    *,
    ttl: int = 60,
    grace: int = 60,
    limit: int = 20,
    now: datetime = START,
    dead_letter: DeadLetter | None = None,
    without_clients: Sequence[str] = (),
) -> Claim | None:
    return await storage.claim(
        queue,
        claim_id=new_id(),
        ttl=ttl,
        grace=grace,
        limit=limit,
        now=now,
        dead_letter=lambda _: dead_letter,
        without_clients=without_clients,
    )


async def carry_off(
    storage: Storage, queue: QueueRef, rule: DeadLetter, carry: Carry, *, now: datetime = START
) -> Claim | None:
    """A claim of a queue whose dead letters go to another store."""
    return await storage.claims.create(
        queue,
        claim_id=new_id(),
        ttl=60,
        grace=60,
        limit=20,
        now=now,
        dead_letter=lambda _: rule,
        carry=carry,
    )


async def hold(
    storage: Storage,
    queue: QueueRef,
    *,
    ttl: int = 60,
    grace: int = 60,
    limit: int = 20,
    now: datetime = START,
    dead_letter: DeadLetter | None = None,
) -> Claim:
    """Claim where there must be something to claim."""
    held = await claim(
        storage, queue, ttl=ttl, grace=grace, limit=limit, now=now, dead_letter=dead_letter
    )
    assert held is not None
    return held


def subscription(
    queue: QueueRef,
    subscriber: str = "http://example.com/hook",
    *,
    ttl: int = 3600,
    options: JsonObject | None = None,
    confirmed: bool = True,
    now: datetime = START,
) -> Subscription:
    """A subscription to be created; ids made later sort later, as with `new_ordered_id`."""
    return Subscription(
        id=f"{next(_subscription_numbers):032x}",
        queue=queue,
        subscriber=subscriber,
        ttl=ttl,
        options=options or {},
        created_at=now,
        expires_at=now + timedelta(seconds=ttl),
        confirmed=confirmed,
    )


async def subscribe(
    storage: Storage,
    queue: QueueRef,
    subscriber: str = "http://example.com/hook",
    *,
    ttl: int = 3600,
    options: JsonObject | None = None,
    confirmed: bool = True,
    now: datetime = START,
) -> Subscription:
    wanted = subscription(queue, subscriber, ttl=ttl, options=options, confirmed=confirmed, now=now)
    return await storage.subscriptions.create(wanted, renew=renewal(wanted), now=now)


def bodies(source: Page | Claim | Sequence[Message]) -> list[str]:
    """The bodies, as given to `post`."""
    messages = source.messages if isinstance(source, Page | Claim) else source
    return [json.loads(message.body) for message in messages]


def ids(source: Page | Claim | Sequence[Message]) -> list[str]:
    messages = source.messages if isinstance(source, Page | Claim) else source
    return [message.id for message in messages]


async def together(*steps: Coroutine[object, object, None]) -> None:
    """Run all at once, within half a minute; the first failure stops the others."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(step)


def first(
    monkeypatch: pytest.MonkeyPatch, store: object, method: str, do: Callable[[], Any]
) -> None:
    """Do something once, before the next call of this method of a store."""
    called = getattr(store, method)

    async def do_first(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(store, method, called)
        await do()
        return await called(*arguments, **options)

    monkeypatch.setattr(store, method, do_first)
