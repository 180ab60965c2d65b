"""Each checker passes a sound history, and complains of one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import checkers
from tests.faults.history import (
    Claimed,
    Deleted,
    Delivered,
    Event,
    Fault,
    History,
    LeaseLost,
    Listed,
    Observed,
    Posted,
    Released,
    Renewed,
    Unanswered,
)


def posted(*keys: str, began: float = 0, acknowledged: float = 1, queue: str = "events") -> Posted:
    return Posted(queue, list(keys), began, acknowledged, tries=1)


def claimed(claim_id: str, *keys: str, at: float, ttl: int = 60) -> Claimed:
    return Claimed("consumer", claim_id, "jobs", list(keys), at, at + 0.1, ttl)


def delivered(subscriber: str, key: str, delivery_id: str = "") -> Delivered:
    return Delivered(subscriber, key, delivery_id or f"{subscriber}:{key}", at=2)


def test_an_acknowledged_message_that_is_nowhere_is_lost() -> None:
    assert checkers.lost(["a", "b"], ["b", "a"], "there") == []
    assert checkers.lost(["a", "b"], ["a"], "there") == ["b was acknowledged and is not there"]


def test_a_message_that_nobody_posted_is_strange() -> None:
    assert checkers.strange(["a", "b"], ["a"], "there") == []
    assert checkers.strange(["a"], ["a", "x"], "there") == ["x is there and was never posted"]


def test_a_message_that_is_there_twice_is_doubled() -> None:
    assert checkers.doubled(["a", "b"], "there") == []
    assert checkers.doubled(["a", "b", "a"], "there") == ["a is there 2 times"]


ONE_AFTER_ANOTHER = [posted("a", began=0, acknowledged=1), posted("b", began=2, acknowledged=3)]
AT_THE_SAME_TIME = [posted("a", began=0, acknowledged=2), posted("b", began=1, acknowledged=3)]
TOGETHER = [posted("a", "b", "c")]


@pytest.mark.parametrize(
    ("posts", "keys", "is_in_order"),
    [
        (ONE_AFTER_ANOTHER, ["a", "b"], True),
        (ONE_AFTER_ANOTHER, ["b", "a"], False),
        (ONE_AFTER_ANOTHER, ["b"], True),
        (AT_THE_SAME_TIME, ["a", "b"], True),
        (AT_THE_SAME_TIME, ["b", "a"], True),
        (TOGETHER, ["a", "b", "c"], True),
        (TOGETHER, ["a", "c", "b"], False),
        ([*AT_THE_SAME_TIME, posted("z", began=4, acknowledged=5)], ["z", "a", "b"], False),
    ],
)
def test_order_is_that_of_posts_made_one_after_another(
    posts: list[Posted], keys: list[str], is_in_order: bool
) -> None:
    post_of = checkers.posts_by_key(posts)

    assert (checkers.out_of_order(post_of, keys, "there") == []) is is_in_order


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (["a", "b", "c"], None),
        (["a", "u", "b", "c"], None),
        (["a", "c"], "b was acknowledged"),
        (["a", "b", "b", "c"], "b is among what observer saw 2 times"),
        (["a", "u", "b", "u", "c"], "u is among what observer saw 2 times"),
        (["a", "b", "c", "x"], "x is among"),
        (["b", "a", "c"], "another order"),
        ([], "a was acknowledged"),
    ],
)
def test_an_observer_sees_each_message_once_and_in_order(
    seen: list[str], complaint: str | None
) -> None:
    complaints = checkers.missed(["a", "b", "c"], seen, {"u"}, "observer")

    assert (complaint is None) is (complaints == [])
    assert complaint is None or complaint in complaints[0]


FIRST = claimed("1", "a", at=0)


@pytest.mark.parametrize(
    ("second_at", "events", "is_shared"),
    [
        (30, [], True),
        (58.8, [], True),
        (59, [], False),
        (61, [], False),
        (61, [Renewed("1", asked_at=50, ttl=60)], True),
        (30, [Released("1", asked_at=20)], False),
        (30, [Released("1", asked_at=40)], True),
        (30, [Deleted("1", "a", asked_at=20, answered_at=21)], False),
        (30, [Deleted("1", "b", asked_at=20, answered_at=21)], True),
        (30, [Deleted("1", "a", asked_at=31, answered_at=32)], True),
    ],
)
def test_no_message_is_held_by_two_claims(
    second_at: float, events: list[Event], is_shared: bool
) -> None:
    history = History([FIRST, claimed("2", "a", at=second_at), *events])

    complaints = checkers.shared(
        history.of(Claimed), history.of(Renewed), history.of(Released), history.of(Deleted)
    )

    assert (complaints == ["a was held by claim 1 and by claim 2"]) is is_shared
    assert (complaints == []) is not is_shared


def test_a_claim_that_outlasts_another_is_compared_with_later_ones() -> None:
    claims = [
        claimed("1", "a", at=0, ttl=600),
        claimed("2", "a", at=300, ttl=60),
        claimed("3", "a", at=500, ttl=60),
    ]

    assert len(checkers.shared(claims, [], [], [])) == 2


@pytest.mark.parametrize(
    ("lost_at", "events", "is_early"),
    [
        (58.9, [], True),
        (59, [], False),
        (60, [Renewed("1", asked_at=50, ttl=60)], True),
        (30, [Released("1", asked_at=20)], False),
    ],
)
def test_a_claim_lives_until_its_end(lost_at: float, events: list[Event], is_early: bool) -> None:
    history = History(events)
    losses = [LeaseLost("1", lost_at)]

    complaints = checkers.cut_short([FIRST], history.of(Renewed), history.of(Released), losses)

    assert (len(complaints) == 1) is is_early


@pytest.mark.parametrize(("claimed_at", "is_undead"), [(0.5, False), (1.9, False), (2.1, True)])
def test_a_deleted_message_is_not_claimed_again(claimed_at: float, is_undead: bool) -> None:
    deletions = [Deleted("1", "a", asked_at=1, answered_at=2)]

    complaints = checkers.undead([claimed("2", "a", at=claimed_at)], deletions)

    assert (len(complaints) == 1) is is_undead


def test_every_subscriber_takes_every_message() -> None:
    deliveries = [delivered("x", "a"), delivered("x", "b"), delivered("y", "a")]

    assert checkers.undelivered(["a", "b"], deliveries, ["x"], []) == []
    assert checkers.undelivered(["a"], deliveries, ["x", "y"], ["b"]) == []
    assert checkers.undelivered(["a", "b"], deliveries, ["x", "y"], []) == [
        "b was acknowledged and is not with y"
    ]
    assert checkers.undelivered(["a"], deliveries, ["x"], []) == [
        "b is with x and was never posted"
    ]


def test_a_delivery_keeps_its_id_and_has_it_for_itself() -> None:
    sound = [delivered("x", "a", "1"), delivered("x", "a", "1"), delivered("x", "b", "2")]

    assert checkers.renamed(sound) == []
    assert checkers.renamed([*sound, delivered("x", "a", "3")]) == [
        "a came to x under 2 delivery ids"
    ]
    assert checkers.renamed([*sound, delivered("y", "a", "1")]) == [
        "delivery 1 stands for 2 deliveries"
    ]


SOUND: list[Event] = [
    posted("e1", "e2"),
    posted("j1", queue="jobs"),
    Observed("observer", "events", ["e1", "e2"], at=2),
    claimed("1", "j1", at=2),
    Deleted("1", "j1", asked_at=3, answered_at=4),
    Fault("process killed", at=5, pause_seconds=0),
    delivered("x", "e1"),
    delivered("x", "e2"),
    delivered("x", "e2"),
    Listed("events", ["e1", "e2"]),
    Listed("jobs", []),
    Listed("copies", ["e1", "e2"]),
    delivered("even", "e2"),
]


def check(events: list[Event]) -> list[str]:
    return checkers.check(
        History(events),
        observed="events",
        observers=["observer"],
        consumed="jobs",
        relayed="copies",
        subscribers=["x"],
        filtered="even",
        ordered=["x"],
    )


def without(position: int, *instead: Event) -> list[Event]:
    return [*SOUND[:position], *instead, *SOUND[position + 1 :]]


def test_a_sound_run_has_no_complaints() -> None:
    assert check(SOUND) == []


@pytest.mark.parametrize(
    "seen",
    [
        [],
        [Listed("events", ["e1", "u1", "e2"])],
        [Observed("observer", "events", ["u1"], at=3)],
        [delivered("x", "u1"), Listed("copies", ["e1", "e2", "u1"])],
        [claimed("2", "u2", at=6), Deleted("2", "u2", asked_at=7, answered_at=8)],
    ],
)
def test_a_post_that_got_no_answer_may_be_seen_or_not(seen: list[Event]) -> None:
    posts = [Unanswered("events", ["u1"]), Unanswered("jobs", ["u2"])]

    assert check([*SOUND, *posts, *seen]) == []


EVENT, JOB = Unanswered("events", ["u"]), Unanswered("jobs", ["u"])


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        (without(0, posted("e1", "e2", "e3")), "e3 was acknowledged and is not on events"),
        (without(0, posted("e2", "e1")), "not in the order of their post"),
        (without(2, Observed("observer", "events", ["e2"], at=2)), "e1 was acknowledged"),
        (without(2), "e1 was acknowledged and is not among what observer saw"),
        (without(3), "j1 was acknowledged and is not in any claim"),
        (without(3, claimed("1", "j1", at=2), claimed("2", "j1", at=2)), "held by claim"),
        (without(5, claimed("2", "j1", at=5)), "after its deletion"),
        (without(5, LeaseLost("1", asked_at=5)), "before its end"),
        (without(6), "e1 was acknowledged and is not with x"),
        (without(8, delivered("x", "e2", "other")), "under 2 delivery ids"),
        (without(9, Listed("events", ["e1", "e2", "e2"])), "e2 is on events 2 times"),
        (without(9, Listed("events", ["e1", "e2", "y"])), "y is on events and was never posted"),
        (without(10, Listed("jobs", ["j1"])), "j1 is left on jobs"),
        (without(11, Listed("copies", ["e1"])), "e2 was acknowledged and is not on copies"),
        (without(11, Listed("copies", ["e1", "e2", "e1"])), "e1 is on copies 2 times"),
        ([JOB, *without(9, Listed("events", ["e1", "e2", "u"]))], "u is on events and was never"),
        ([JOB, *without(11, Listed("copies", ["e1", "e2", "u"]))], "u is on copies and was never"),
        (without(12), "e2 was acknowledged and is not with even"),
        ([*SOUND, delivered("even", "e1")], "e1 is with even and was never posted"),
        ([JOB, *SOUND, delivered("x", "u")], "u is with x and was never posted"),
        ([JOB, *SOUND, Observed("observer", "events", ["u"], at=3)], "saw and was never posted"),
        ([EVENT, *SOUND, claimed("2", "u", at=6)], "u is in a claim and was never posted"),
        ([EVENT, *SOUND, Observed("observer", "events", ["u", "u"], at=3)], "observer saw 2 times"),
        ([EVENT, *without(9, Listed("events", ["u", "e1", "e2", "u"]))], "u is on events 2 times"),
        ([EVENT, *without(11, Listed("copies", ["u", "e1", "e2", "u"]))], "u is on copies 2 times"),
    ],
)
def test_a_run_with_one_fault_has_its_complaint(events: list[Event], complaint: str) -> None:
    assert any(complaint in found for found in check(events))


def test_a_run_in_numbers() -> None:
    numbers = checkers.counts(History(SOUND))

    assert numbers["process killed"] == 1
    assert numbers["messages acknowledged"] == 3
    assert numbers["deliveries taken"] == 4
    assert numbers["duplicate deliveries"] == 1


def test_a_history_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"

    History(SOUND).write(path)

    assert History.read(path).events == SOUND


@pytest.mark.parametrize(
    ("taken", "is_sound"),
    [(["a", "b"], True), (["a", "b", "a"], True), (["b", "a", "b"], False)],
)
def test_an_ordered_subscriber_takes_messages_in_the_order_of_their_posts(
    taken: list[str], is_sound: bool
) -> None:
    deliveries = [*(delivered("line", key) for key in taken), delivered("other", "b")]
    post_of = checkers.posts_by_key(ONE_AFTER_ANOTHER)

    assert (checkers.overtaken(post_of, deliveries, "line") == []) is is_sound
