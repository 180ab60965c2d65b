"""Messages that were claimed too often move to another queue, inside the claim that meets them."""

from __future__ import annotations

import msgspec
import pytest

from tests.clock import START
from tests.contract.steps import (
    GivenPost,
    after,
    bodies,
    carry_off,
    claim,
    everything,
    get_one,
    hold,
    ids,
    new_message,
    page,
    post,
    post_one,
)
from zaqar_notify.clock import new_id
from zaqar_notify.models import (
    DeadLetter,
    JsonObject,
    Leaving,
    Message,
    NewMessage,
    Origin,
    Queue,
    QueueRef,
)
from zaqar_notify.storage.base import Carrier
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage

pytestmark = pytest.mark.needs(Capability.CLAIMS)

LEASE = 60


def dead_letter(queue: QueueRef, *, max_claim_count: int = 1, ttl: int | None = None) -> DeadLetter:
    return DeadLetter(
        queue=QueueRef(queue.project, "dead"), max_claim_count=max_claim_count, ttl=ttl
    )


async def claim_and_let_lapse(storage: Storage, queue: QueueRef, *, times: int) -> float:
    """Claim everything so often without deleting; return the seconds that went by."""
    for turn in range(times):
        await hold(storage, queue, ttl=LEASE, limit=1000, now=after(turn * LEASE))
    return times * LEASE


async def test_a_message_is_moved_at_the_claim_after_its_last_allowed_one(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, max_claim_count=2)
    await post(storage, queue, bodies=["poison"])

    first = await hold(storage, queue, ttl=LEASE, dead_letter=rule)
    second = await hold(storage, queue, ttl=LEASE, now=after(LEASE), dead_letter=rule)
    third = await claim(storage, queue, ttl=LEASE, now=after(2 * LEASE), dead_letter=rule)

    assert [first.messages[0].claim_count, second.messages[0].claim_count] == [1, 2]
    assert third is None
    assert await everything(storage, queue, now=after(2 * LEASE)) == []
    assert bodies(await page(storage, rule.queue, now=after(2 * LEASE))) == ["poison"]


async def test_all_reads_return_all_that_was_posted(storage: Storage, queue: QueueRef) -> None:
    rule = dead_letter(queue)
    sent = NewMessage(b'"a"', 300, checksum="MD5:0123", attributes=b'{"n":1}')
    await storage.post(queue, GivenPost([sent, sent]), now=START)

    listed = (await page(storage, queue)).messages
    got = await storage.messages.get(queue, [one.id for one in listed], now=START)
    held = await hold(storage, queue, ttl=LEASE, limit=1, dead_letter=rule)
    read = await storage.claims.get(queue, held.id, now=START)
    popped = await storage.messages.pop(queue, limit=1, now=START)
    await claim(storage, queue, now=after(LEASE), dead_letter=rule)
    moved = (await page(storage, rule.queue, now=after(LEASE))).messages

    assert read is not None
    reads = [*listed, *got, *held.messages, *read.messages, *popped, *moved]
    assert [posted_fields(one) for one in reads] == [posted_fields(sent)] * 8


def posted_fields(message: NewMessage | Message) -> dict[str, object]:
    """The fields that a message has from its post."""
    stored = {field.name for field in msgspec.structs.fields(Message)}
    fields = [one for one in msgspec.structs.fields(NewMessage) if one.name in stored]
    posted = {one.name: getattr(message, one.name) for one in fields}
    assert not [one.name for one in fields if posted[one.name] == one.default], "give each a value"
    return posted


async def test_a_limit_of_no_claims_moves_at_the_first_one(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, max_claim_count=0)
    await post(storage, queue, bodies=["a"])

    assert await claim(storage, queue, dead_letter=rule) is None
    assert bodies(await page(storage, rule.queue)) == ["a"]


async def test_a_moved_message_is_a_free_message_with_a_fresh_life(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, ttl=500)
    sent = new_message("poison", ttl=3600)
    [message_id] = (await storage.post(queue, GivenPost([sent]), now=START)).ids
    now = await claim_and_let_lapse(storage, queue, times=1)

    await claim(storage, queue, now=after(now), dead_letter=rule)

    expected = Message(
        id=message_id,
        body=sent.body,
        ttl=500,
        posted_at=START,
        expires_at=after(now + 500),
        claim_id=None,
        claim_count=0,
    )
    assert (await page(storage, rule.queue, now=after(now))).messages == [expected]
    assert await storage.messages.get(rule.queue, [message_id], now=after(now)) == [expected]
    assert await storage.messages.get(queue, [message_id], now=after(now)) == []


async def test_without_a_ttl_of_its_own_the_move_counts_the_message_s_anew(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, ttl=None)
    message_id = await post_one(storage, queue, "poison", ttl=300)
    now = await claim_and_let_lapse(storage, queue, times=1)

    await claim(storage, queue, now=after(now), dead_letter=rule)

    moved = await get_one(storage, rule.queue, message_id, now=after(now))
    assert (moved.ttl, moved.expires_at) == (300, after(now + 300))
    just_before = after(now + 299.999)
    assert bodies(await everything(storage, rule.queue, now=just_before)) == ["poison"]
    assert await everything(storage, rule.queue, now=after(now + 300)) == []


async def test_the_dead_letter_queue_is_created_when_absent(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, max_claim_count=0)
    await post(storage, queue, bodies=["a"])

    await claim(storage, queue, now=after(5), dead_letter=rule)

    assert await storage.queues.get(rule.queue) == Queue(rule.queue, {}, after(5))


async def test_an_existing_dead_letter_queue_keeps_its_record(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, max_claim_count=0)
    await storage.queues.create(rule.queue, metadata={"colour": "red"}, now=START)
    await post(storage, queue, bodies=["a"])

    await claim(storage, queue, now=after(5), dead_letter=rule)

    assert await storage.queues.get(rule.queue) == Queue(rule.queue, {"colour": "red"}, START)


async def test_no_dead_letter_queue_is_created_while_nothing_moves(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue)
    await post(storage, queue, bodies=["a"])

    await hold(storage, queue, dead_letter=rule)

    assert await storage.queues.get(rule.queue) is None


async def test_moved_messages_are_appended_so_that_no_reader_misses_them(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, max_claim_count=0)
    await post(storage, queue, bodies=["old poison"])
    await post(storage, rule.queue, bodies=["there already"])
    seen = await page(storage, rule.queue)

    await claim(storage, queue, dead_letter=rule)

    assert bodies(await page(storage, rule.queue, marker=seen.marker)) == ["old poison"]
    assert bodies(await page(storage, rule.queue)) == ["there already", "old poison"]


async def test_moved_messages_keep_their_order(storage: Storage, queue: QueueRef) -> None:
    rule = dead_letter(queue, max_claim_count=0)
    await post(storage, queue, bodies=["a", "b", "c"])

    await claim(storage, queue, dead_letter=rule)

    assert bodies(await page(storage, rule.queue)) == ["a", "b", "c"]


async def test_a_moved_message_s_id_is_a_marker_where_it_was_and_where_it_is(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, max_claim_count=0)
    await post(storage, rule.queue, bodies=["before"])
    moved_id = await post_one(storage, queue, "moved")
    await claim(storage, queue, dead_letter=rule)
    await post(storage, queue, bodies=["next in its old queue"])
    await post(storage, rule.queue, bodies=["after"])

    assert bodies(await page(storage, queue, marker=moved_id)) == ["next in its old queue"]
    assert bodies(await page(storage, rule.queue, marker=moved_id)) == ["after"]


async def test_good_messages_are_leased_while_poison_is_moved(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue)
    await post(storage, queue, bodies=["poison 1", "poison 2"])
    now = await claim_and_let_lapse(storage, queue, times=1)
    await post(storage, queue, bodies=["good 1", "good 2"], now=after(now))

    held = await hold(storage, queue, limit=20, now=after(now), dead_letter=rule)

    assert bodies(held) == ["good 1", "good 2"]
    assert bodies(await page(storage, rule.queue, now=after(now))) == ["poison 1", "poison 2"]


async def test_good_messages_behind_much_poison_are_reached(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue)
    poison = [f"poison {number}" for number in range(100)]
    await post(storage, queue, bodies=poison)
    now = await claim_and_let_lapse(storage, queue, times=1)
    await post(storage, queue, bodies=["good"], now=after(now))

    leased: list[str] = []
    for _ in range(150):
        held = await claim(storage, queue, limit=1, now=after(now), dead_letter=rule)
        if held is not None:
            leased += bodies(held)

    assert leased == ["good"]
    dead = await everything(storage, rule.queue, now=after(now))
    assert bodies(dead) == poison


async def test_only_visible_messages_move(storage: Storage, queue: QueueRef) -> None:
    rule = dead_letter(queue, max_claim_count=0)
    await post(storage, queue, bodies=["held"])
    held = await hold(storage, queue, ttl=600)
    await post(storage, queue, bodies=["delayed"], delay=600)
    expired = await post_one(storage, queue, "expired", ttl=60)

    assert await claim(storage, queue, now=after(60), dead_letter=rule) is None

    assert bodies(await everything(storage, queue, now=after(60))) == ["held", "delayed"]
    assert await storage.claims.get(queue, held.id, now=after(60)) == held
    assert await everything(storage, rule.queue, now=after(60)) == []
    assert await storage.messages.get(rule.queue, [expired], now=after(60)) == []


async def test_a_claim_without_the_rule_moves_nothing(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"])
    now = await claim_and_let_lapse(storage, queue, times=5)

    held = await hold(storage, queue, now=after(now))

    assert held.messages[0].claim_count == 6


async def test_renewals_do_not_bring_a_message_nearer_to_its_move(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, max_claim_count=2)
    await post(storage, queue, bodies=["slow"])
    first = await hold(storage, queue, ttl=LEASE, dead_letter=rule)
    for turn in range(1, 5):
        await storage.claims.renew(
            queue, first.id, ttl=LEASE, grace=60, now=after(turn * (LEASE - 1))
        )

    again = await claim(storage, queue, now=after(5 * LEASE), dead_letter=rule)

    assert again is not None
    assert bodies(again) == ["slow"]


async def test_a_released_message_moves_when_its_claims_are_used_up(
    storage: Storage, queue: QueueRef
) -> None:
    """A consumer that politely gives back cannot keep a poison message going round."""
    rule = dead_letter(queue, max_claim_count=2)
    await post(storage, queue, bodies=["poison"])
    for _ in range(2):
        held = await hold(storage, queue, dead_letter=rule)
        await storage.claims.release(queue, held.id, now=START)

    assert await claim(storage, queue, dead_letter=rule) is None
    assert bodies(await page(storage, rule.queue)) == ["poison"]


async def test_an_uncounted_claim_does_not_use_one_up(storage: Storage, queue: QueueRef) -> None:
    rule = dead_letter(queue, max_claim_count=1)
    await post(storage, queue, bodies=["a"])
    for _ in range(5):
        held = await hold(storage, queue, dead_letter=rule)
        await storage.claims.release(queue, held.id, now=START, counted=False)

    assert bodies(await hold(storage, queue, dead_letter=rule)) == ["a"]


async def test_a_claim_on_the_dead_letter_queue_counts_from_zero(
    storage: Storage, queue: QueueRef
) -> None:
    rule = dead_letter(queue, max_claim_count=0)
    await post(storage, queue, bodies=["a"])
    await claim(storage, queue, dead_letter=rule)

    held = await hold(storage, rule.queue)

    assert held.messages[0].claim_count == 1
    await storage.messages.delete(rule.queue, ids(held)[0], claim_id=held.id, now=START)
    assert await everything(storage, rule.queue) == []


async def test_a_moved_message_can_move_on(storage: Storage, queue: QueueRef) -> None:
    first_rule = dead_letter(queue, max_claim_count=0)
    second_rule = DeadLetter(queue=QueueRef(queue.project, "buried"), max_claim_count=0, ttl=None)
    message_id = await post_one(storage, queue, "a")

    await claim(storage, queue, dead_letter=first_rule)
    await claim(storage, first_rule.queue, dead_letter=second_rule)

    assert await everything(storage, first_rule.queue) == []
    assert ids(await page(storage, second_rule.queue)) == [message_id]


async def test_the_rule_is_made_of_the_queue_s_present_rules(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    seen: list[JsonObject] = []

    def no_rule(rules: JsonObject) -> None:
        seen.append(rules)

    async def claim_by(metadata: JsonObject) -> None:
        await storage.queues.update(queue, lambda _: metadata)
        await storage.claim(
            queue,
            claim_id=new_id(),
            ttl=60,
            grace=60,
            limit=1,
            now=START,
            dead_letter=no_rule,
        )

    await claim_by({"_max_claim_count": 1})
    await claim_by({"_max_claim_count": 2})

    assert seen == [{"_max_claim_count": 1}, {"_max_claim_count": 2}]


JOBS = QueueRef(project="", name="outbox.0")


def described(leaving: Leaving) -> NewMessage:
    """A job that tells all that the store says of the message."""
    return NewMessage(body=msgspec.json.encode(leaving), ttl=86_400)


def away(to: DeadLetter) -> Carrier:
    return Carrier(JOBS, described)


async def jobs(storage: Storage, *, now: float = 0) -> list[Leaving]:
    found = await everything(storage, JOBS, now=after(now))
    return [msgspec.json.decode(message.body, type=Leaving) for message in found]


async def test_by_a_carrier_the_message_leaves_with_all_that_it_has(
    storage: Storage, queue: QueueRef
) -> None:
    sent = NewMessage(b'"a"', 300, checksum="MD5:0123", attributes=b'{"n":1}')
    [message_id] = (await storage.post(queue, GivenPost([sent]), now=START)).ids

    rule = dead_letter(queue, max_claim_count=0)
    assert await carry_off(storage, queue, rule, away, now=after(1)) is None

    assert await everything(storage, queue, now=after(1)) == []
    [leaving] = await jobs(storage, now=1)
    assert leaving.message == sent
    assert (leaving.origin, leaving.client_id) == (Origin(message_id, START), "producer")


async def test_the_job_is_the_project_s_and_lives_as_long_as_it_says(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    rule = dead_letter(queue, max_claim_count=0)
    await carry_off(storage, queue, rule, away, now=after(1))

    [job] = (await page(storage, JOBS, now=after(1))).messages
    others = await page(storage, JOBS, now=after(1), without_client=queue.project)

    assert (job.ttl, job.posted_at, job.expires_at) == (86_400, after(1), after(1 + 86_400))
    assert job.claim_count == 0
    assert others.messages == []
    await storage.messages.delete(JOBS, job.id, claim_id=None, now=after(1))
    assert await everything(storage, JOBS, now=after(1)) == []


async def test_a_message_has_another_place_each_time_that_it_comes(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    [message_id] = (await post(storage, queue, bodies=["a"])).ids
    there, back = DeadLetter(other_queue, 0, ttl=None), DeadLetter(queue, 0, ttl=None)
    await claim(storage, queue, dead_letter=there)
    await claim(storage, other_queue, dead_letter=back)

    await carry_off(storage, queue, there, away)

    [leaving] = await jobs(storage)
    assert leaving.origin == Origin(message_id, START)
    assert leaving.place != message_id


async def test_a_message_of_another_store_keeps_its_id_and_its_posting_instant(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    [message_id] = (await post(storage, other_queue, bodies=["a"])).ids
    sent = msgspec.structs.replace(
        new_message("a", ttl=300), origin=Origin(message_id, START), checksum="MD5:0123"
    )
    own_id = await post_one(storage, queue, "before", now=after(7))

    await storage.post(queue, GivenPost([sent], client_id="first"), now=after(8))

    expected = Message(message_id, sent.body, 300, START, after(308), checksum=sent.checksum)
    now = after(8)
    assert await storage.messages.get(queue, [message_id], now=now) == [expected]
    assert (await page(storage, queue, now=now, marker=own_id)).messages == [expected]
    assert ids(await page(storage, queue, now=now, without_client="first")) == [own_id]
    await storage.messages.delete(queue, message_id, claim_id=None, now=now)
    assert ids(await everything(storage, queue, now=now)) == [own_id]
