"""Stores that former releases wrote are opened, and all that was on them is there and goes on.

How they were made: `fill.py`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.clock import START, ManualClock
from tests.contract.steps import (
    after,
    bodies,
    everything,
    hold,
    ids,
    page,
    post,
    post_one,
)
from tests.migrations.fill import (
    CLAIM_ID,
    DEAD,
    DELAY_SECONDS,
    DISABLED,
    KEY,
    PURGED,
    RECEIVER,
    TTL_SECONDS,
)
from tests.migrations.former import facts_of, put_mongodb, put_sqlite
from tests.workers.office import QUEUE, Office
from zaqar_notify.delivery import InternalPost, replay_job
from zaqar_notify.errors import MessageIsClaimed
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import Pool, Subscription, Token
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import POISON_REF, undelivered_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.rekeying import key_ids

FORMER = {"sqlite-1": put_sqlite, "mongodb-1": put_mongodb}
OWED = b'"owed"'


@pytest.fixture(params=FORMER)
def name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def uri(name: str, tmp_path: Path) -> str:
    return FORMER[name](name, tmp_path)


@pytest.fixture
async def storage(uri: str) -> AsyncIterator[Storage]:
    storage = await open_storage(uri)
    yield storage
    await storage.close()


@pytest.fixture
def given(name: str) -> dict[str, str]:
    """Ids by the text of the message."""
    ids_by_text: dict[str, str] = facts_of(name)["ids"]
    return ids_by_text


@pytest.fixture
def marker(name: str) -> str:
    marker: str = facts_of(name)["marker of free 1"]
    return marker


@pytest.fixture
def office(storage: Storage, clock: ManualClock) -> Office:
    return Office(storage, clock, Settings(retry_jitter=0))


async def test_queues_and_messages_are_there_under_their_ids(
    storage: Storage, given: dict[str, str]
) -> None:
    expected = ["claimed", "free 1", "free 2", "remembered 1", "remembered 2", "owed", "delayed"]

    found = await everything(storage, QUEUE)

    assert {json.loads(message.body): message.id for message in found} == {
        text: given[text] for text in expected
    }
    assert bodies(found) == expected
    assert {message.ttl for message in found} == {TTL_SECONDS}
    queue = await storage.queues.get(QUEUE)
    assert queue is not None
    assert queue.metadata == {"colour": "red"}
    assert ids(await page(storage, DEAD.queue)) == [given["dead"]]
    assert await everything(storage, PURGED) == []


async def test_old_ids_name_their_messages(storage: Storage, given: dict[str, str]) -> None:
    wanted = [given[text] for text in ("free 2", "delayed", "deleted", "left behind", "claimed")]

    found = await storage.messages.get(QUEUE, wanted, now=START)

    assert bodies(found) == ["claimed", "free 2", "delayed"]
    assert bodies(await storage.messages.get(DEAD.queue, [given["dead"]], now=START)) == ["dead"]
    for text in ("free 2", "delayed"):
        await storage.messages.delete(QUEUE, given[text], claim_id=None, now=START)
    await storage.messages.delete_many(QUEUE, [given["owed"]], claim_ids=None, now=START)
    await storage.messages.delete(DEAD.queue, given["dead"], claim_id=None, now=START)
    assert bodies(await everything(storage, QUEUE)) == [
        *("claimed", "free 1", "remembered 1", "remembered 2")
    ]
    assert await everything(storage, DEAD.queue) == []


async def test_an_old_marker_shows_what_came_after_it_and_what_comes(
    storage: Storage, given: dict[str, str], marker: str
) -> None:
    await post_one(storage, QUEUE, "new")

    behind = await page(storage, QUEUE, marker=marker)

    assert bodies(behind) == ["free 2", "remembered 1", "remembered 2", "owed", "new"]
    assert bodies(await page(storage, QUEUE, marker=given["deleted"])) == ["owed", "new"]
    assert bodies(await page(storage, QUEUE, marker=behind.marker)) == []
    assert bodies(await page(storage, DEAD.queue, marker=given["dead"])) == []


async def test_claims_and_delays_go_on_to_their_ends(
    storage: Storage, given: dict[str, str]
) -> None:
    with pytest.raises(MessageIsClaimed):
        await storage.messages.delete(QUEUE, given["claimed"], claim_id=None, now=after(1))
    held = await storage.claims.get(QUEUE, CLAIM_ID, now=after(3599))
    assert held is not None
    assert bodies(held) == ["claimed"]
    assert "delayed" not in bodies(await page(storage, QUEUE, now=after(DELAY_SECONDS - 1)))

    again = await hold(storage, QUEUE, now=after(3600))

    assert bodies(again) == [
        *("claimed", "free 1", "free 2", "remembered 1", "remembered 2", "owed", "delayed")
    ]
    assert [message.claim_count for message in again.messages] == [2, 1, 1, 1, 1, 1, 1]


async def test_a_claim_that_was_made_before_ends_with_its_message(
    storage: Storage, given: dict[str, str]
) -> None:
    await storage.messages.delete(QUEUE, given["claimed"], claim_id=CLAIM_ID, now=after(1))

    assert await storage.claims.get(QUEUE, CLAIM_ID, now=after(1)) is None


async def test_a_post_is_remembered_by_its_key(storage: Storage, given: dict[str, str]) -> None:
    repeated = await post(storage, QUEUE, bodies=["remembered 1", "remembered 2"], key=KEY)

    assert repeated.ids == [given["remembered 1"], given["remembered 2"]]


async def test_what_is_owed_is_delivered_when_it_is_due(office: Office, clock: ManualClock) -> None:
    await office.work_off()
    assert office.sink.bodies(RECEIVER) == [OWED]

    clock.advance(seconds=DELAY_SECONDS)
    await office.work_off()

    assert sorted(office.sink.bodies(RECEIVER)) == [b'"delayed"', OWED, OWED]
    assert sorted(each.attempt for each in office.sink.to(RECEIVER)) == [1, 1, 2]
    assert office.sink.to(DISABLED) == []


def enabled(subscription: Subscription) -> Subscription:
    return msgspec.structs.replace(subscription, disabled_at=None)


async def test_what_is_held_is_delivered_when_its_subscription_is_enabled(
    name: str, storage: Storage, office: Office
) -> None:
    _, subscription_id = facts_of(name)["subscriptions"]
    subscription = await storage.subscriptions.get(QUEUE, subscription_id, now=START)
    assert subscription is not None
    assert subscription.disabled_at == START
    again = await storage.subscriptions.update(QUEUE, subscription_id, enabled, now=START)

    ref, job = replay_job(again, office.settings)
    await storage.post(ref, InternalPost([job]), now=START)
    await office.work_off()

    # Once held already, and once by the post's own job.
    assert office.sink.bodies(DISABLED) == [OWED, OWED]


async def test_what_was_given_up_or_put_aside_is_shown(
    name: str, storage: Storage, office: Office
) -> None:
    subscription_id, _ = facts_of(name)["subscriptions"]
    subscription = await storage.subscriptions.get(QUEUE, subscription_id, now=START)
    assert subscription is not None
    assert subscription.subscriber == RECEIVER

    [given_up] = await office.undelivered(subscription)

    assert (given_up.attempts, given_up.status) == (3, 404)
    assert len(await everything(storage, undelivered_ref(subscription_id))) == 1
    assert len(await everything(storage, POISON_REF)) == 1


async def test_opened_once_more_it_is_as_it_was(uri: str, given: dict[str, str]) -> None:
    for number in range(2):
        storage = await open_storage(uri)
        try:
            found = await everything(storage, QUEUE)
            assert [message.id for message in found][:7] == [
                given[text]
                for text in (
                    *("claimed", "free 1", "free 2", "remembered 1", "remembered 2"),
                    *("owed", "delayed"),
                )
            ]
            assert len(found) == 7 + number
            await post_one(storage, QUEUE, "new")
        finally:
            await storage.close()


async def test_it_has_no_tokens_and_takes_one(storage: Storage) -> None:
    token = Token("id", b"digest", QUEUE.project, "member", None, "", START)

    assert await storage.control.tokens.list(None, marker=None, limit=1) == []
    await storage.control.tokens.create(token)

    assert await storage.control.tokens.find(b"digest") == token


async def test_it_has_no_pools_and_takes_one(storage: Storage) -> None:
    pool = Pool("p", "sqlite:///p.db", 1, {}, None, START)

    assert await storage.control.pools.read() == Registered()
    await storage.control.pools.change(lambda _: Registered({"p": pool}))

    assert await storage.control.pools.read() == Registered({"p": pool})


async def test_it_has_an_identity_that_stays_and_an_empty_catalogue(
    storage: Storage, uri: str
) -> None:
    identity = await storage.store.identity()

    assert await storage.control.catalogue.get(QUEUE) is None
    assert await storage.control.catalogue.place(QUEUE, "pool", now=START) == "pool"
    await storage.close()
    reopened = await open_storage(uri)
    assert identity
    assert await reopened.store.identity() == identity
    await reopened.close()


async def test_with_a_key_what_was_clear_stays_readable_and_new_messages_are_encrypted(
    uri: str, given: dict[str, str]
) -> None:
    storage = await open_storage(uri, keys=Keyring({"k1": bytes(32)}))
    try:
        await storage.queues.update(QUEUE, lambda metadata: {**metadata, ENCRYPT: True})
        await post(storage, QUEUE, bodies=["hidden"])

        shown = bodies(await everything(storage, QUEUE))
        assert shown[-1] == "hidden"
        assert set(shown) <= {*given, "hidden"}
        assert await storage.subscriptions.list(QUEUE, marker=None, limit=10, now=START)
        assert await storage.store.encrypted.key_ids() == ["k1"]
        assert await key_ids(storage.control.encrypted) == []
    finally:
        await storage.close()
