"""Deliveries to another queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from sinks.queue import QueueSink
from tests.sinks.builders import delivery_to
from zaqar_notify.errors import (
    NotifyError,
    QueueNameInvalid,
    QuotaExceeded,
    StorageUnavailable,
    ValidationFailed,
    WebhooksNotSigned,
)
from zaqar_notify.models import (
    MessageType,
    NewMessage,
    Outcome,
    QueueRef,
    Verdict,
)
from zaqar_notify.rules.certificates import SigningKey
from zaqar_notify.settings import Settings
from zaqar_notify.storage.suppressions import Suppression


@dataclass
class RecordingRelay:
    error: NotifyError | None = None
    posts: list[tuple[QueueRef, NewMessage, str, int]] = field(default_factory=list)
    left: list[tuple[QueueRef, QueueRef, NewMessage]] = field(default_factory=list)
    suppressed: dict[tuple[str, str], Suppression] = field(default_factory=dict)
    """By project and addressee."""
    limits: dict[str, int] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)

    async def __call__(
        self,
        ref: QueueRef,
        message: NewMessage,
        *,
        origin: str,
        visited: Sequence[str],
        hops: int,
        request_id: str,
    ) -> None:
        if self.error:
            raise self.error
        self.posts.append((ref, message, origin, hops))

    async def signing_key(self) -> SigningKey:
        raise WebhooksNotSigned

    async def leave(self, ref: QueueRef, internal: QueueRef, record: NewMessage) -> None:
        if self.error:
            raise self.error
        self.left.append((ref, internal, record))

    async def suppression(self, project: str, addressee: str) -> Suppression | None:
        if self.error:
            raise self.error
        return self.suppressed.get((project, addressee))

    def limit(self, project: str, quota: str) -> int:
        return self.limits.get(project, 0)

    def held_back(self, quota: str) -> None:
        self.counted[quota] += 1


@pytest.fixture
def relay() -> RecordingRelay:
    return RecordingRelay()


async def test_the_message_is_posted_to_the_queue_unchanged(relay: RecordingRelay) -> None:
    body = '{"b":  "\\u00e9é"}'.encode()

    outcome = await QueueSink(relay, Settings()).deliver(delivery_to("queue:q2", body=body))

    assert outcome == Outcome(Verdict.DELIVERED)
    assert relay.posts == [
        (QueueRef("project1", "q2"), NewMessage(body=body, ttl=60), "origin1", 1)
    ]


async def test_the_scheme_may_be_in_any_case(relay: RecordingRelay) -> None:
    await QueueSink(relay, Settings()).deliver(delivery_to("Queue:Q2"))

    assert relay.posts[0][0] == QueueRef("project1", "Q2")


@pytest.mark.parametrize(
    ("hops", "verdict"),
    [
        (0, Verdict.DELIVERED),
        (3, Verdict.DELIVERED),
        (4, Verdict.REFUSED),
        (5, Verdict.REFUSED),
    ],
)
async def test_a_loop_is_cut_after_the_permitted_hops(
    relay: RecordingRelay, hops: int, verdict: Verdict
) -> None:
    outcome = await QueueSink(relay, Settings()).deliver(delivery_to("queue:q2", hops=hops))

    assert outcome.verdict is verdict
    assert len(relay.posts) == (verdict is Verdict.DELIVERED)
    assert ("ZAQAR_DELIVERY_MAX_HOPS" in outcome.detail) == (verdict is Verdict.REFUSED)


async def test_each_hop_is_counted(relay: RecordingRelay) -> None:
    await QueueSink(relay, Settings()).deliver(delivery_to("queue:q2", hops=2))

    assert relay.posts[0][3] == 3


async def test_a_confirmation_is_posted_for_the_readers_of_the_queue(
    relay: RecordingRelay,
) -> None:
    kind = MessageType.SUBSCRIPTION_CONFIRMATION

    await QueueSink(relay, Settings()).deliver(
        delivery_to("queue:q2", kind=kind, payload=b'{"SubscribeBody": {}}')
    )

    assert relay.posts[0][1].body == b'{"SubscribeBody": {}}'


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ValidationFailed("the message is too large"), Verdict.REFUSED),
        (QueueNameInvalid("q!"), Verdict.REFUSED),
        (StorageUnavailable("secret host is down"), Verdict.POSTPONED),
        (QuotaExceeded("queues", limit=1, used=1, remedy="delete queues"), Verdict.POSTPONED),
    ],
)
async def test_a_post_that_fails_is_an_outcome(error: NotifyError, verdict: Verdict) -> None:
    outcome = await QueueSink(RecordingRelay(error), Settings()).deliver(delivery_to("queue:q2"))

    assert outcome.verdict is verdict
    assert "secret" not in outcome.detail
