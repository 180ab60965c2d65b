"""The states of a subscription, as pure functions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.clock import START
from zaqar_notify.models import DisabledReason, QueueRef, Subscription
from zaqar_notify.rules.states import disabled, enabled, is_failing_for, paused, unless_paused

NORMAL = Subscription(
    id="s",
    queue=QueueRef("p", "q"),
    subscriber="http://h",
    ttl=60,
    options={},
    created_at=START,
    expires_at=START + timedelta(seconds=60),
    replay_id="former",
)
LATER = START + timedelta(seconds=5)


def test_a_pause_names_its_reason_and_ends_the_replay_under_way() -> None:
    now_paused = paused(NORMAL, "moving house", START)

    assert (now_paused.disabled_at, now_paused.disabled_detail) == (START, "moving house")
    assert now_paused.is_paused
    assert now_paused.replay_id is None


def test_a_second_pause_keeps_the_first_one_s_instant_and_reason() -> None:
    first = paused(NORMAL, "one", START)

    assert paused(first, "two", LATER) == first


@pytest.mark.parametrize("reason", [DisabledReason.GONE, DisabledReason.FAILING])
def test_a_pause_of_a_disabled_subscription_is_not_ended_by_a_change(
    reason: DisabledReason,
) -> None:
    was_disabled = disabled(NORMAL, reason, "410", START)

    now_paused = paused(was_disabled, "", LATER)

    assert unless_paused(was_disabled).disabled_at is None
    assert unless_paused(now_paused) == now_paused


def test_enabling_leaves_no_trace_but_the_replay() -> None:
    was_disabled = replace(paused(NORMAL, "x", START), failing_since=START)

    assert enabled(was_disabled, replay_id="new") == replace(NORMAL, replay_id="new")
    assert enabled(NORMAL, replay_id="new") == NORMAL


def test_failures_count_from_their_first_one_to_the_very_second() -> None:
    failing = replace(NORMAL, failing_since=START)

    assert not is_failing_for(failing, 60, START + timedelta(seconds=59.999))
    assert is_failing_for(failing, 60, START + timedelta(seconds=60))
    assert not is_failing_for(failing, 0, START + timedelta(days=999))
    assert not is_failing_for(NORMAL, 60, START + timedelta(days=999))
