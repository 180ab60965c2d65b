"""Options for order, batches and pace; and the token bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.pacing.bucket import TOGETHER_SECONDS, Bucket
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.pacing import (
    Batching,
    Pace,
    check_together,
    pace_of,
    parse_batching,
    parse_in_flight,
    parse_order,
    parse_rate,
)


@pytest.mark.parametrize(
    ("options", "pace"),
    [
        ({}, None),
        ({"post_data": "x"}, None),
        ({"_ordered": False}, None),
        ({"_ordered": None, "_batch": None}, None),
        ({"_ordered": True}, Pace(is_ordered=True)),
        ({"_ordered": {"by_attribute": "customer"}}, Pace(True, "customer")),
        ({"_batch": {"count": 100}}, Pace(batching=Batching(100, 1))),
        ({"_batch": {"count": 2, "seconds": 0.5}}, Pace(batching=Batching(2, 0.5))),
        ({"_max_receives_per_second": 0.1}, Pace(per_second=0.1)),
        ({"_max_in_flight": 1}, Pace(in_flight=1)),
        ({"_ordered": "of an earlier release, kept unread"}, None),
    ],
)
def test_the_pace_that_options_ask_for(options: JsonObject, pace: Pace | None) -> None:
    assert pace_of(options) == pace


@pytest.mark.parametrize("value", ["yes", 1, [], {}, {"by": "x"}, {"by_attribute": 7}])
def test_an_order_of_no_known_form_is_refused(value: object) -> None:
    with pytest.raises(ValidationFailed, match=r"_ordered .*must be"):
        parse_order(value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (True, r'_batch must be \{"count": NUMBER'),
        ({"seconds": 3}, r'_batch must be \{"count": NUMBER'),
        ({"count": 3, "size": 3}, r'_batch must be \{"count": NUMBER'),
        ({"count": 1}, "count must be an integer from 2 to 100"),
        ({"count": 101}, "count must be an integer from 2 to 100"),
        ({"count": True}, "count must be an integer from 2 to 100"),
        ({"count": 2, "seconds": 61}, "seconds must be a number from 0 to 60"),
        ({"count": 2, "seconds": "1"}, "seconds must be a number from 0 to 60"),
    ],
)
def test_a_batch_out_of_bounds_is_refused(value: object, sentence: str) -> None:
    with pytest.raises(ValidationFailed, match=sentence):
        parse_batching(value)


@pytest.mark.parametrize("value", [0, -1, 0.0009, 10_001, "1", True])
def test_a_rate_out_of_bounds_is_refused(value: object) -> None:
    with pytest.raises(ValidationFailed, match=r"must be a number from 0.001 to 10000"):
        parse_rate(value)


@pytest.mark.parametrize("value", [0, 1001, 1.5, "1", True])
def test_a_bound_of_requests_out_of_bounds_is_refused(value: object) -> None:
    with pytest.raises(ValidationFailed, match="must be an integer from 1 to 1000"):
        parse_in_flight(value)


def test_batches_are_for_webhooks_and_in_the_services_own_shape() -> None:
    options: JsonObject = {"_batch": {"count": 2}}

    check_together(options, "http://hook", takes_batches=True)
    with pytest.raises(ValidationFailed, match="mailto: gets each message by itself"):
        check_together(options, "mailto:a@example.org", takes_batches=False)
    with pytest.raises(ValidationFailed, match="can't be used with post_data"):
        check_together({**options, "post_data": "x"}, "http://hook", takes_batches=True)


@given(
    per_second=st.floats(0.001, 10_000),
    pauses=st.lists(st.floats(0, 5), max_size=60),
    window=st.floats(0.001, 60),
)
def test_no_more_requests_begin_in_any_time_than_the_rate_permits(
    per_second: float, pauses: list[float], window: float
) -> None:
    bucket, now = Bucket(per_second, now=0.0, ready_at=None), 0.0
    begun: list[float] = []
    for pause in pauses:
        now += pause + bucket.wait(now + pause)
        now += bucket.wait(now)  # Of rounding.
        bucket.spend(now)
        begun.append(now)

    at_once = max(1.0, per_second * TOGETHER_SECONDS)
    for start in begun:
        count = sum(start <= at <= start + window for at in begun)
        assert count <= per_second * window + at_once + 1e-6 * len(begun)


def test_a_bucket_goes_on_where_another_one_ended() -> None:
    bucket = Bucket(0.5, now=100.0, ready_at=101.5)

    assert bucket.wait(100.0) == pytest.approx(1.5)
    assert bucket.wait(101.5) == 0
    assert bucket.until_full(101.5) == 0
