"""Queues' records, their listing and their statistics."""

from __future__ import annotations

import pytest

from tests.clock import START
from tests.contract.steps import (
    after,
    bodies,
    claim,
    everything,
    hold,
    page,
    post,
    post_one,
    subscribe,
)
from zaqar_notify.errors import QueueDoesNotExist
from zaqar_notify.models import INTERNAL_PROJECT, JsonObject, Queue, QueueRef, QueueStats
from zaqar_notify.storage.planes import Storage


async def create(storage: Storage, project: str, **queues: JsonObject) -> None:
    for name, metadata in queues.items():
        await storage.queues.create(QueueRef(project, name), metadata=metadata, now=START)


async def names(
    storage: Storage,
    project: str,
    *,
    marker: str | None = None,
    limit: int = 100,
    name_contains: str = "",
    metadata_equals: JsonObject | None = None,
    topics: bool = False,
) -> list[str]:
    queues = await storage.queues.list(
        project,
        marker=marker,
        limit=limit,
        name_contains=name_contains,
        metadata_equals=metadata_equals,
        topics=topics,
    )
    return [queue.ref.name for queue in queues]


async def test_a_queue_that_was_never_created_has_no_record(
    storage: Storage, queue: QueueRef
) -> None:
    assert await storage.queues.get(queue) is None


async def test_a_created_queue_is_read_back_whole(storage: Storage, queue: QueueRef) -> None:
    metadata = {
        "_default_message_ttl": 300,
        "nested": {"list": [1, 2.5, None, True, "ü € 𝄞"], "empty": {}},
        "largest": 2**63 - 1,
        "with.dot": 1,
        "$dollar": 2,
        "": "no name",
    }

    assert await storage.queues.create(queue, metadata=metadata, now=START) is True

    assert await storage.queues.get(queue) == Queue(queue, metadata, START)


async def test_creating_an_existing_queue_changes_nothing(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={"colour": "red"}, now=START)

    assert await storage.queues.create(queue, metadata={"colour": "blue"}, now=after(5)) is False

    assert await storage.queues.get(queue) == Queue(queue, {"colour": "red"}, START)


async def test_queues_of_one_name_in_two_projects_are_two_queues(
    storage: Storage, queue: QueueRef
) -> None:
    twin = QueueRef(project=f"{queue.project}-twin", name=queue.name)
    await storage.queues.create(queue, metadata={"mine": 1}, now=START)
    await post(storage, queue, bodies=["a"])

    assert await storage.queues.get(twin) is None
    assert await everything(storage, twin) == []
    assert await storage.queues.create(twin, metadata={}, now=START) is True


async def test_reading_and_consuming_do_not_create_a_queue(
    storage: Storage, queue: QueueRef
) -> None:
    await page(storage, queue)
    await claim(storage, queue)
    await storage.messages.pop(queue, limit=1, now=START)
    await storage.messages.purge(queue, now=START)
    await storage.queues.stats(queue, now=START)
    await storage.subscriptions.list(queue, marker=None, limit=10, now=START)

    assert await storage.queues.get(queue) is None


async def test_update_replaces_the_metadata_and_returns_it(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={"kept": 1, "gone": 2}, now=START)

    def change(metadata: JsonObject) -> JsonObject:
        return {"kept": metadata["kept"], "new": 3}

    assert await storage.queues.update(queue, change) == {"kept": 1, "new": 3}
    assert await storage.queues.get(queue) == Queue(queue, {"kept": 1, "new": 3}, START)


async def test_an_update_whose_change_raises_stores_nothing(
    storage: Storage, queue: QueueRef
) -> None:
    class Unwanted(Exception):
        pass

    def change(metadata: JsonObject) -> JsonObject:
        raise Unwanted

    await storage.queues.create(queue, metadata={"colour": "red"}, now=START)

    with pytest.raises(Unwanted):
        await storage.queues.update(queue, change)

    assert await storage.queues.get(queue) == Queue(queue, {"colour": "red"}, START)


async def test_a_queue_that_was_never_created_cannot_be_updated(
    storage: Storage, queue: QueueRef
) -> None:
    with pytest.raises(QueueDoesNotExist):
        await storage.queues.update(queue, lambda metadata: metadata)

    assert await storage.queues.get(queue) is None


async def test_deleting_a_queue_removes_messages_and_claims_and_keeps_subscriptions(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={"colour": "red"}, now=START)
    await post(storage, queue, bodies=["held"])
    held = await hold(storage, queue)
    await post(storage, queue, bodies=["free"])
    await post(storage, queue, bodies=["delayed"], delay=60)
    subscribed = await subscribe(storage, queue)

    await storage.queues.delete(queue, now=START)

    assert await storage.queues.get(queue) is None
    assert await everything(storage, queue) == []
    assert await storage.claims.get(queue, held.id, now=START) is None
    assert await storage.queues.stats(queue, now=START) == QueueStats(claimed=0, free=0)
    assert await storage.subscriptions.get(queue, subscribed.id, now=START) == subscribed


async def test_deleting_a_queue_leaves_its_neighbours_alone(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    twin = QueueRef(project=f"{queue.project}-twin", name=queue.name)
    await post(storage, queue, bodies=["a"])
    await post(storage, other_queue, bodies=["b"])
    await post(storage, twin, bodies=["c"])

    await storage.queues.delete(queue, now=START)

    assert bodies(await page(storage, other_queue)) == ["b"]
    assert bodies(await page(storage, twin)) == ["c"]


async def test_deleting_an_absent_queue_is_no_error(storage: Storage, queue: QueueRef) -> None:
    await storage.queues.delete(queue, now=START)

    assert await storage.queues.get(queue) is None


async def test_a_marker_from_before_the_deletion_hides_nothing_posted_later(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a", "b", "c"])
    marker = (await page(storage, queue)).marker

    await storage.queues.delete(queue, now=START)
    await post(storage, queue, bodies=["d"])

    assert bodies(await page(storage, queue, marker=marker)) == ["d"]
    assert bodies(await page(storage, queue, marker=posted.ids[-1])) == ["d"]


async def test_queues_are_listed_by_name_bytewise(storage: Storage, queue: QueueRef) -> None:
    ascending = ["-a", "..", "0", "10", "2", "B", "Z.z", "_", "a", "a-b", "a.b", "a_b", "aa", "z"]
    for name in reversed(ascending):
        await create(storage, queue.project, **{name: {}})

    assert await names(storage, queue.project) == ascending


async def test_a_listing_starts_after_its_marker_which_need_not_exist(
    storage: Storage, queue: QueueRef
) -> None:
    await create(storage, queue.project, a={}, b={}, d={})

    assert await names(storage, queue.project, marker="b") == ["d"]
    assert await names(storage, queue.project, marker="c") == ["d"]
    assert await names(storage, queue.project, marker="a", limit=1) == ["b"]
    assert await names(storage, queue.project, marker="z") == []


async def test_queues_and_topics_are_listed_apart_and_counted_together(
    storage: Storage, queue: QueueRef
) -> None:
    made = {name: {"kind": 1} for name in ("a", "z", "_", "~a", "~b", "~_")}
    await create(storage, queue.project, **made)
    await create(storage, f"{queue.project}~", **{"~other": {}})

    assert await names(storage, queue.project) == ["_", "a", "z"]
    assert await names(storage, queue.project, marker="a", metadata_equals={"kind": 1}) == ["z"]
    assert await names(storage, queue.project, topics=True) == ["~_", "~a", "~b"]
    assert await names(storage, queue.project, marker="~_", limit=1, topics=True) == ["~a"]
    assert await storage.queues.count(queue.project) == 3
    assert await storage.queues.count(queue.project, metadata_equals={"kind": 1}) == 3
    assert await storage.queues.count_all(queue.project) == 6


async def test_a_listing_shows_only_its_own_project(storage: Storage, queue: QueueRef) -> None:
    await create(storage, queue.project, mine={})
    await create(storage, f"{queue.project}-twin", theirs={})
    await create(storage, "", internal={})

    assert await names(storage, queue.project) == ["mine"]
    assert await storage.queues.count(queue.project) == 1


async def test_a_listing_gives_the_records_whole(storage: Storage, queue: QueueRef) -> None:
    await storage.queues.create(queue, metadata={"colour": "red"}, now=after(3))

    listed = await storage.queues.list(queue.project, marker=None, limit=10)

    assert listed == [Queue(queue, {"colour": "red"}, after(3))]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("", ["Orders", "a%b", "a.b", "a_b", "axb", "orders"]),
        ("rder", ["Orders", "orders"]),
        ("Order", ["Orders"]),
        ("a.b", ["a.b"]),
        ("a_b", ["a_b"]),
        ("%", ["a%b"]),
        ("*", []),
        ("x", ["axb"]),
        ("orders", ["orders"]),
        ("ordersx", []),
        ("[", []),
        ("'", []),
    ],
)
async def test_a_name_filter_is_a_literal_case_sensitive_part(
    storage: Storage, queue: QueueRef, part: str, expected: list[str]
) -> None:
    every_name: dict[str, JsonObject] = {
        name: {} for name in ["orders", "Orders", "a.b", "a_b", "axb", "a%b"]
    }
    await create(storage, queue.project, **every_name)

    assert await names(storage, queue.project, name_contains=part) == expected
    assert await storage.queues.count(queue.project, name_contains=part) == len(expected)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["empty", "null", "number", "object", "odd", "one", "text", "truth", "values"]),
        ({"a": 1}, ["one"]),
        ({"a": True}, ["truth"]),
        ({"a": "1"}, ["text"]),
        ({"a": None}, ["null"]),
        ({"a": 2}, ["number"]),
        ({"a": 2, "b": "x"}, ["number"]),
        ({"a": 2, "b": "y"}, []),
        ({"a": [1, "1", 99]}, ["one", "text"]),
        ({"a": [True, 2]}, ["number", "truth"]),
        ({"a": [[1, 2]]}, ["values"]),
        ({"a": []}, []),
        ({"a": {"deep": 1}}, ["object"]),
        ({"a": {"deep": 2}}, []),
        ({"missing": 1}, []),
        ({"dotted.key": 1}, ["odd"]),
        ({'quo"ted': 1}, ["odd"]),
        ({"$dollar": 1}, ["odd"]),
        ({"": 1}, ["odd"]),
        ({"a.deep": 1}, []),
        ({"ü'; --": 1}, ["odd"]),
    ],
)
async def test_a_metadata_filter_names_top_level_keys_and_their_values(
    storage: Storage, queue: QueueRef, wanted: JsonObject, expected: list[str]
) -> None:
    await create(
        storage,
        queue.project,
        empty={},
        null={"a": None},
        number={"a": 2, "b": "x"},
        object={"a": {"deep": 1}},
        odd={"dotted.key": 1, 'quo"ted': 1, "$dollar": 1, "": 1, "ü'; --": 1},
        one={"a": 1},
        text={"a": "1"},
        truth={"a": True},
        values={"a": [1, 2]},
    )

    assert await names(storage, queue.project, metadata_equals=wanted) == expected
    assert await storage.queues.count(queue.project, metadata_equals=wanted) == len(expected)


async def test_filters_marker_and_limit_work_together(storage: Storage, queue: QueueRef) -> None:
    for number in range(30):
        colour = "red" if number % 3 == 0 else "blue"
        await create(storage, queue.project, **{f"q{number:02}": {"colour": colour}})

    first = await names(
        storage, queue.project, limit=3, name_contains="1", metadata_equals={"colour": "red"}
    )
    rest = await names(
        storage,
        queue.project,
        marker=first[-1],
        limit=3,
        name_contains="1",
        metadata_equals={"colour": "red"},
    )

    assert first == ["q12", "q15", "q18"]
    assert rest == ["q21"]
    assert (
        await storage.queues.count(
            queue.project, name_contains="1", metadata_equals={"colour": "red"}
        )
        == 4
    )


async def test_statistics_of_an_unknown_queue_are_zeros(storage: Storage, queue: QueueRef) -> None:
    stats = await storage.queues.stats(queue, now=START)

    assert stats == QueueStats(claimed=0, free=0, oldest=None, newest=None)


async def test_statistics_count_delayed_messages_as_free(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a", "b"])
    await hold(storage, queue, limit=1)
    await post(storage, queue, bodies=["c"], delay=60)

    stats = await storage.queues.stats(queue, now=START)

    assert (stats.claimed, stats.free, stats.total) == (1, 2, 3)


async def test_statistics_show_the_ends_of_what_is_not_delayed(
    storage: Storage, queue: QueueRef
) -> None:
    await post_one(storage, queue, "delayed first", delay=60)
    oldest_id = await post_one(storage, queue, "claimed", now=after(1))
    await hold(storage, queue, limit=1, now=after(1))
    newest_id = await post_one(storage, queue, "newest", now=after(2))
    await post_one(storage, queue, "delayed last", delay=60, now=after(3))

    stats = await storage.queues.stats(queue, now=after(4))

    assert stats.oldest is not None
    assert stats.newest is not None
    assert (stats.oldest.id, stats.oldest.posted_at) == (oldest_id, after(1))
    assert (stats.newest.id, stats.newest.posted_at) == (newest_id, after(2))


async def test_statistics_show_no_ends_while_everything_is_delayed(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b"], delay=60)

    just_before = await storage.queues.stats(queue, now=after(59.999))
    when_due = await storage.queues.stats(queue, now=after(60))

    assert just_before == QueueStats(claimed=0, free=2, oldest=None, newest=None)
    assert when_due.oldest is not None
    assert when_due.newest is not None


async def test_statistics_leave_out_what_has_expired(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"], ttl=60)
    survivor = await post_one(storage, queue, "b", ttl=61)

    just_before = await storage.queues.stats(queue, now=after(59.999))
    at_expiry = await storage.queues.stats(queue, now=after(60))

    assert just_before.free == 2
    assert at_expiry.free == 1
    assert at_expiry.oldest is not None
    assert at_expiry.oldest.id == survivor


async def test_statistics_count_a_message_as_claimed_until_its_claim_expires(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    await hold(storage, queue, ttl=60)

    just_before = await storage.queues.stats(queue, now=after(59.999))
    at_expiry = await storage.queues.stats(queue, now=after(60))

    assert (just_before.claimed, just_before.free) == (1, 0)
    assert (at_expiry.claimed, at_expiry.free) == (0, 1)


async def test_messages_are_counted_over_all_internal_queues_whose_names_begin_alike(
    storage: Storage,
) -> None:
    def internal(name: str) -> QueueRef:
        return QueueRef(INTERNAL_PROJECT, name)

    for name in ("parked", "parked.1", "parked.2", "parked.", "parked/", "held.1"):
        await post(storage, internal(name), bodies=["free", "deleted", "claimed"])
    await post(storage, QueueRef("a client's", "parked.1"), bodies=["theirs"])
    await post(storage, internal("parked.3"), bodies=["delayed"], delay=60)
    [deleted] = await storage.messages.pop(internal("parked.1"), limit=1, now=START)
    await hold(storage, internal("parked.1"))
    await storage.heads.drop_internal([internal("parked.2")])

    assert deleted.id
    assert await storage.heads.count_internal(prefix="parked.") == 2 + 3 + 1
    assert await storage.heads.count_internal(prefix="none.") == 0


async def test_queues_of_clients_with_a_head_are_listed_in_pages(storage: Storage) -> None:
    there = [QueueRef("a", "2"), QueueRef("a", "é"), QueueRef("b", "1"), QueueRef("é", "1")]
    dropped = QueueRef("a", "3")
    for ref in [*reversed(there), dropped, QueueRef(INTERNAL_PROJECT, "z")]:
        await post(storage, ref, bodies=["a"])
    await storage.queues.delete(dropped, now=START)

    beginning = await storage.heads.of_clients(after=None, limit=3)
    rest = await storage.heads.of_clients(after=beginning[-1], limit=3)

    assert [*beginning, *rest] == there
    assert await storage.heads.of_clients(after=dropped, limit=2) == there[1:3]
    assert await storage.heads.of_clients(after=there[-1], limit=3) == []
