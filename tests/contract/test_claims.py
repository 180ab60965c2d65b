"""Claims: the messages that they take, how long they hold them, and how they end."""

from __future__ import annotations

import pytest

from tests.clock import START
from tests.contract.steps import (
    ILL_FORMED_IDS,
    after,
    bodies,
    claim,
    everything,
    get_one,
    hold,
    ids,
    page,
    post,
    post_one,
)
from zaqar_notify.clock import new_id
from zaqar_notify.errors import ClaimDoesNotExist
from zaqar_notify.models import Claim, Message, QueueRef
from zaqar_notify.storage import passing
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage

pytestmark = pytest.mark.needs(Capability.CLAIMS)


async def test_there_is_nothing_to_claim_on_an_unknown_or_empty_queue(
    storage: Storage, queue: QueueRef
) -> None:
    assert await claim(storage, queue) is None

    await storage.queues.create(queue, metadata={}, now=START)
    assert await claim(storage, queue) is None


async def test_a_claim_is_returned_with_its_messages(storage: Storage, queue: QueueRef) -> None:
    message_id = await post_one(storage, queue, "a", ttl=3600)
    claim_id = new_id()

    held = await storage.claim(queue, claim_id=claim_id, ttl=300, grace=60, limit=5, now=after(10))

    message = Message(
        id=message_id,
        body=b'"a"',
        ttl=3600,
        posted_at=START,
        expires_at=after(3600),
        claim_id=claim_id,
        claim_count=1,
    )
    assert held == Claim(claim_id, ttl=300, expires_at=after(310), messages=[message])
    assert await storage.claims.get(queue, claim_id, now=after(20)) == held


@pytest.mark.needs(Capability.FIFO)
async def test_a_claim_takes_the_oldest_first_up_to_its_limit(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b"])
    await post(storage, queue, bodies=["c", "d", "e"])

    assert bodies(await hold(storage, queue, limit=3)) == ["a", "b", "c"]
    assert bodies(await hold(storage, queue, limit=3)) == ["d", "e"]
    assert await claim(storage, queue, limit=3) is None


async def test_a_claim_takes_messages_whoever_posted_them(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"], client_id="me")
    await post(storage, queue, bodies=["b"], client_id="you")

    assert bodies(await hold(storage, queue)) == ["a", "b"]


@pytest.mark.needs(Capability.AOD)
async def test_a_claim_frees_its_messages_exactly_when_it_expires(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue, ttl=60)

    assert await claim(storage, queue, now=after(59.999)) is None
    assert await storage.claims.get(queue, held.id, now=after(59.999)) is not None

    assert await storage.claims.get(queue, held.id, now=after(60)) is None
    assert bodies(await hold(storage, queue, now=after(60))) == ["a"]


async def test_a_message_is_claimed_exactly_when_its_delay_ends(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"], delay=60)

    assert await claim(storage, queue, now=after(59.999)) is None
    assert bodies(await hold(storage, queue, now=after(60))) == ["a"]


async def test_a_message_is_claimed_until_it_expires(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"], ttl=60)
    await post(storage, queue, bodies=["b"], ttl=60)

    assert bodies(await hold(storage, queue, limit=1, now=after(59.999))) == ["a"]
    assert await claim(storage, queue, now=after(60)) is None


@pytest.mark.needs(Capability.FIFO)
async def test_messages_keep_their_place_through_delay_lapse_and_release(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["delayed"], delay=10)
    await post(storage, queue, bodies=["lapsed", "released", "fresh"])
    await hold(storage, queue, ttl=10, limit=1)
    released = await hold(storage, queue, ttl=600, limit=1)
    await storage.claims.release(queue, released.id, now=after(5))

    held = await hold(storage, queue, now=after(10))

    assert bodies(held) == ["delayed", "lapsed", "released", "fresh"]


async def test_a_claim_passes_over_held_messages_in_between(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b", "c", "d"])
    first = await hold(storage, queue, limit=1)
    await hold(storage, queue, limit=1)
    await hold(storage, queue, limit=1)
    await storage.claims.release(queue, first.id, now=START)

    assert bodies(await hold(storage, queue, limit=10)) == ["a", "d"]


async def test_claims_of_two_queues_do_not_meet(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["mine"])
    await post(storage, other_queue, bodies=["theirs"])

    mine = await hold(storage, queue)

    assert bodies(mine) == ["mine"]
    assert bodies(await page(storage, other_queue)) == ["theirs"]
    assert await storage.claims.get(other_queue, mine.id, now=START) is None
    await storage.claims.release(other_queue, mine.id, now=START)
    with pytest.raises(ClaimDoesNotExist):
        await storage.claims.renew(other_queue, mine.id, ttl=60, grace=60, now=START)
    assert await storage.claims.get(queue, mine.id, now=START) == mine


async def test_a_claim_id_of_another_project_names_nothing(
    storage: Storage, queue: QueueRef
) -> None:
    twin = QueueRef(project=f"{queue.project}-twin", name=queue.name)
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue)

    assert await storage.claims.get(twin, held.id, now=START) is None
    await storage.claims.release(twin, held.id, now=START)

    assert await storage.claims.get(queue, held.id, now=START) == held


async def test_each_claim_raises_the_count_by_one(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"])

    counts = [
        (await hold(storage, queue, ttl=60, now=after(60 * turn))).messages[0].claim_count
        for turn in range(4)
    ]

    assert counts == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("message_ttl", "claim_ttl", "grace", "expires_after"),
    [
        (3600, 60, 60, 3600),
        (60, 60, 60, 120),
        (100, 60, 60, 120),
        (119, 60, 60, 120),
        (120, 60, 60, 120),
        (121, 60, 60, 121),
        (60, 300, 0, 300),
        (60, 43200, 43200, 86400),
    ],
)
async def test_a_message_lives_at_least_to_the_claim_s_expiry_and_its_grace(
    storage: Storage,
    queue: QueueRef,
    message_ttl: int,
    claim_ttl: int,
    grace: int,
    expires_after: int,
) -> None:
    message_id = await post_one(storage, queue, "a", ttl=message_ttl)

    held = await hold(storage, queue, ttl=claim_ttl, grace=grace)

    assert held.messages[0].expires_at == after(expires_after)
    assert held.messages[0].ttl == message_ttl
    just_before = await get_one(storage, queue, message_id, now=after(expires_after - 0.001))
    assert (just_before.ttl, just_before.expires_at) == (message_ttl, after(expires_after))
    assert await storage.messages.get(queue, [message_id], now=after(expires_after)) == []


async def test_get_shows_what_a_claim_still_holds_in_order(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b", "c"])
    held = await hold(storage, queue)

    await storage.messages.delete(queue, held.messages[1].id, claim_id=held.id, now=START)

    shown = await storage.claims.get(queue, held.id, now=START)
    assert shown is not None
    assert bodies(shown) == ["a", "c"]
    assert (shown.id, shown.ttl, shown.expires_at) == (held.id, 60, after(60))


async def test_a_claim_ends_with_its_last_message(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a", "b"])
    held = await hold(storage, queue)

    await storage.messages.delete(queue, held.messages[0].id, claim_id=held.id, now=START)
    await storage.messages.delete_many(queue, [held.messages[1].id], claim_ids=[held.id], now=START)

    assert await storage.claims.get(queue, held.id, now=START) is None
    with pytest.raises(ClaimDoesNotExist):
        await storage.claims.renew(queue, held.id, ttl=60, grace=60, now=START)


async def test_a_claim_whose_messages_were_deleted_past_it_is_gone(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue)

    await storage.messages.delete_many(queue, ids(held), claim_ids=None, now=START)

    assert await storage.claims.get(queue, held.id, now=START) is None


@pytest.mark.parametrize("claim_id", [*ILL_FORMED_IDS, "f" * 32])
async def test_an_unknown_claim_is_not_found_and_releasing_it_is_no_error(
    storage: Storage, queue: QueueRef, claim_id: str
) -> None:
    await post(storage, queue, bodies=["a", "b"])
    held = await hold(storage, queue, limit=1)

    assert await storage.claims.get(queue, claim_id, now=START) is None
    with pytest.raises(ClaimDoesNotExist):
        await storage.claims.renew(queue, claim_id, ttl=60, grace=60, now=START)
    await storage.claims.release(queue, claim_id, now=START)
    await storage.claims.release(queue, claim_id, now=START, counted=False)

    assert await storage.claims.get(queue, held.id, now=START) == held


@pytest.mark.parametrize("renewed_ttl", [60, 300, 10])
async def test_a_renewed_claim_ends_its_new_ttl_after_the_renewal(
    storage: Storage, queue: QueueRef, renewed_ttl: int
) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue, ttl=60)

    await storage.claims.renew(queue, held.id, ttl=renewed_ttl, grace=60, now=after(30))

    ends = 30 + renewed_ttl
    renewed = await storage.claims.get(queue, held.id, now=after(ends - 0.001))
    assert renewed is not None
    assert (renewed.ttl, renewed.expires_at) == (renewed_ttl, after(ends))
    assert await claim(storage, queue, now=after(ends - 0.001)) is None
    assert await storage.claims.get(queue, held.id, now=after(ends)) is None
    assert bodies(await hold(storage, queue, now=after(ends))) == ["a"]


async def test_a_renewed_claim_still_deletes_after_its_first_expiry(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue, ttl=60)
    await storage.claims.renew(queue, held.id, ttl=60, grace=60, now=after(59))

    await storage.messages.delete(queue, held.messages[0].id, claim_id=held.id, now=after(118))

    assert await everything(storage, queue, now=after(118)) == []


async def test_renewal_keeps_the_claim_count(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue, ttl=60)

    for seconds in (10, 20, 30):
        await storage.claims.renew(queue, held.id, ttl=60, grace=60, now=after(seconds))

    renewed = await storage.claims.get(queue, held.id, now=after(30))
    assert renewed is not None
    assert [message.claim_count for message in renewed.messages] == [1]


async def test_renewal_extends_messages_as_claiming_does(storage: Storage, queue: QueueRef) -> None:
    short = await post_one(storage, queue, "a", ttl=60)
    long = await post_one(storage, queue, "b", ttl=3600)
    held = await hold(storage, queue, ttl=60, grace=60)

    await storage.claims.renew(queue, held.id, ttl=100, grace=70, now=after(50))

    first, second = await storage.messages.get(queue, [short, long], now=after(50))
    assert (first.ttl, first.expires_at) == (60, after(220))
    assert (second.ttl, second.expires_at) == (3600, after(3600))


async def test_a_shorter_renewal_does_not_shorten_a_message_s_life(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a", ttl=60)
    held = await hold(storage, queue, ttl=600, grace=60)

    await storage.claims.renew(queue, held.id, ttl=10, grace=0, now=START)

    assert (await get_one(storage, queue, message_id)).expires_at == after(660)


async def test_an_expired_claim_cannot_be_renewed(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue, ttl=60)

    with pytest.raises(ClaimDoesNotExist):
        await storage.claims.renew(queue, held.id, ttl=60, grace=60, now=after(60))

    assert bodies(await hold(storage, queue, now=after(60))) == ["a"]


async def test_a_claim_is_renewed_until_just_before_it_expires(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue, ttl=60)

    await storage.claims.renew(queue, held.id, ttl=60, grace=60, now=after(59.999))

    assert await claim(storage, queue, now=after(119.998)) is None
    assert bodies(await hold(storage, queue, now=after(119.999))) == ["a"]


async def test_a_released_claim_frees_its_messages_at_once(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b"])
    held = await hold(storage, queue)

    await storage.claims.release(queue, held.id, now=after(1))

    assert await storage.claims.get(queue, held.id, now=after(1)) is None
    with pytest.raises(ClaimDoesNotExist):
        await storage.claims.renew(queue, held.id, ttl=60, grace=60, now=after(1))
    shown = await page(storage, queue, now=after(1))
    assert bodies(shown) == ["a", "b"]
    assert [message.claim_id for message in shown.messages] == [None, None]
    assert bodies(await hold(storage, queue, now=after(1))) == ["a", "b"]


async def test_a_release_keeps_the_claim_count(storage: Storage, queue: QueueRef) -> None:
    message_id = await post_one(storage, queue, "a")
    held = await hold(storage, queue)

    await storage.claims.release(queue, held.id, now=START)

    assert (await get_one(storage, queue, message_id)).claim_count == 1


async def test_an_uncounted_release_takes_back_the_claim_s_own_raise(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")
    await hold(storage, queue, ttl=60)
    second = await hold(storage, queue, ttl=60, now=after(60))

    await storage.claims.release(queue, second.id, now=after(60), counted=False)
    await storage.claims.release(queue, second.id, now=after(60), counted=False)

    assert (await get_one(storage, queue, message_id, now=after(60))).claim_count == 1
    assert bodies(await page(storage, queue, now=after(60))) == ["a"]


async def test_releasing_an_expired_claim_touches_nothing(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    expired = await hold(storage, queue, ttl=60)
    present = await hold(storage, queue, ttl=60, now=after(60))

    await storage.claims.release(queue, expired.id, now=after(61), counted=False)

    assert await storage.claims.get(queue, present.id, now=after(61)) == present


async def test_an_uncounted_release_of_an_expired_claim_keeps_the_count(
    storage: Storage, queue: QueueRef
) -> None:
    """An expired claim does not exist any more, so there is nothing to take back."""
    message_id = await post_one(storage, queue, "a")
    expired = await hold(storage, queue, ttl=60)

    await storage.claims.release(queue, expired.id, now=after(60), counted=False)

    assert (await get_one(storage, queue, message_id, now=after(60))).claim_count == 1


async def test_a_release_frees_only_what_the_claim_still_holds(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b", "c"])
    mine = await hold(storage, queue, limit=2)
    theirs = await hold(storage, queue, limit=1)
    await storage.messages.delete(queue, mine.messages[0].id, claim_id=mine.id, now=START)

    await storage.claims.release(queue, mine.id, now=START)

    assert bodies(await page(storage, queue)) == ["b"]
    assert await storage.claims.get(queue, theirs.id, now=START) == theirs


async def test_a_claim_takes_the_oldest_of_many_that_fell_due_together(
    storage: Storage, queue: QueueRef
) -> None:
    """The oldest is the last to have fallen due."""
    await post(storage, queue, bodies=["oldest"])
    await hold(storage, queue, ttl=61)
    await post(storage, queue, bodies=[f"{number}" for number in range(1200)])
    await hold(storage, queue, ttl=60, limit=1200)

    held = await hold(storage, queue, limit=2, now=after(61))

    assert bodies(held) == ["oldest", "0"]


async def test_a_claim_passes_over_the_messages_of_clients_it_is_not_to_have(
    storage: Storage, queue: QueueRef
) -> None:
    for client in ("a", "b", "a", "c", "b"):
        await post(storage, queue, bodies=[client], client_id=client)

    others = await claim(storage, queue, without_clients=["a", "c"])
    rest = await claim(storage, queue)

    assert others is not None
    assert rest is not None
    assert bodies(others) == ["b", "b"]
    assert bodies(rest) == ["a", "a", "c"]


async def test_claims_that_pass_over_many_begin_where_the_last_one_found_something(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(passing, "PART", 10**9)
    await post(storage, queue, bodies=["hidden"] * 3, client_id="a")
    await post(storage, queue, bodies=["first", "second"], client_id="b")

    async def claim_one() -> Claim | None:
        return await claim(storage, queue, limit=1, without_clients=["a"])

    first = await claim_one()
    assert first is not None
    await storage.claims.release(queue, first.id, now=START)
    found = [await claim_one() for _ in range(3)]

    # A claim that finds nothing makes the next one begin at the head again.
    assert [each and bodies(each) for each in found] == [["second"], None, ["first"]]


async def test_a_claim_without_some_clients_puts_away_what_has_expired_behind_theirs(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["stays"], client_id="a")
    await post(storage, queue, bodies=["expires"], client_id="b", ttl=60)

    assert await claim(storage, queue, now=after(60), without_clients=["a"]) is None
    rest = await claim(storage, queue, now=after(60))
    assert rest is not None
    assert bodies(rest) == ["stays"]


async def test_several_leases_are_renewed_at_once_and_those_that_are_over_are_left_out(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b", "c", "d", "e"])
    await post(storage, other_queue, bodies=["elsewhere"])
    lapsed = await hold(storage, queue, ttl=1, limit=1)
    kept = [await hold(storage, queue, ttl=60, limit=1, now=after(0.5)) for _ in range(2)]
    released = await hold(storage, queue, limit=1, now=after(0.5))
    await storage.claims.release(queue, released.id, now=after(0.5))
    done = await hold(storage, queue, limit=1, now=after(0.5))
    await storage.messages.delete(queue, done.messages[0].id, claim_id=done.id, now=after(0.5))
    elsewhere = await hold(storage, other_queue)

    asked = [lapsed.id, kept[0].id, released.id, done.id, kept[1].id, elsewhere.id, "unknown"]
    renewed = await storage.claims.renew_many(queue, asked, ttl=120, grace=0, now=after(2))

    assert renewed == {one.id for one in kept}
    for one in kept:
        assert await storage.claims.get(queue, one.id, now=after(121.999)) is not None
        assert await storage.claims.get(queue, one.id, now=after(122)) is None
    assert await storage.claims.get(queue, lapsed.id, now=after(2)) is None
    assert await storage.claims.get(other_queue, elsewhere.id, now=after(60)) is None
    assert await storage.claims.renew_many(queue, [], ttl=120, grace=0, now=after(2)) == set()
