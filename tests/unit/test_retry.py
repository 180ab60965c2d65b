"""When a delivery that failed is tried again."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kinds import KINDS
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, Outcome, Verdict
from zaqar_notify.rules.retry import MAX_RETRY_AFTER_SECONDS, applicable_schedule, next_attempt_at
from zaqar_notify.rules.retry_policy import Backoff, RetryPolicy, parse_policy
from zaqar_notify.rules.schedules import SNS_HTTP, DefaultName, Schedule, default_schedule, delays
from zaqar_notify.settings import Settings

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
STANDARD = default_schedule("standard", sns=SNS_HTTP)
BACKOFFS: list[Backoff] = ["linear", "arithmetic", "geometric", "exponential"]


def backoff_only(function: Backoff, least: int, most: int) -> RetryPolicy:
    return RetryPolicy(
        retries_with_no_delay=0,
        minimum_delay_retries=0,
        minimum_delay=least,
        maximum_delay=most,
        maximum_delay_retries=0,
        retry_backoff_function=function,
    )


def wait_after(
    attempt: int,
    policy: Schedule | None = None,
    *,
    verdict: Verdict = Verdict.TRY_LATER,
    status: int | None = None,
    retry_after: int | None = None,
    jitter: float = 0.0,
    random: float = 0.0,
) -> float | None:
    at = next_attempt_at(
        policy or RetryPolicy(),
        attempt=attempt,
        outcome=Outcome(verdict, status, retry_after_seconds=retry_after),
        now=NOW,
        jitter=jitter,
        random=lambda: random,
    )
    return None if at is None else (at - NOW).total_seconds()


def test_the_defaults_make_fourteen_retries_over_three_minutes() -> None:
    waits = delays(RetryPolicy())

    assert waits == [0, 0, 0, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30]
    assert sum(waits) == 180


@pytest.mark.parametrize(
    ("function", "least", "most", "expected"),
    [
        ("linear", 5, 30, [5, 10, 15, 20, 25]),
        ("linear", 10, 60, [10, 15, 20, 25, 30, 35, 40, 45, 50, 55]),
        ("linear", 0, 12, [0, 5, 10]),
        ("arithmetic", 5, 30, [5, 7, 12, 20, 30]),
        ("arithmetic", 10, 60, [10, 11, 13, 16, 21, 26, 33, 41, 50, 60]),
        ("arithmetic", 0, 10, [0, 10]),
        ("geometric", 5, 30, [5, 7, 12, 19, 30]),
        ("geometric", 10, 60, [10, 12, 14, 18, 22, 27, 33, 40, 49, 60]),
        ("geometric", 1, 16, [1, 4, 16]),
        ("exponential", 5, 30, [5, 7, 12, 19, 30]),
        ("exponential", 10, 60, [10, 12, 14, 18, 22, 27, 33, 40, 49, 60]),
    ],
)
def test_the_backoff_rises_by_the_named_function(
    function: Backoff, least: int, most: int, expected: list[int]
) -> None:
    assert delays(backoff_only(function, least, most)) == expected


@given(
    function=st.sampled_from(BACKOFFS),
    least=st.integers(1, 600),
    spread=st.integers(10, 900),
)
def test_a_backoff_never_falls_and_stays_between_its_delays(
    function: Backoff, least: int, spread: int
) -> None:
    waits = delays(backoff_only(function, least, least + spread))

    assert all(earlier <= later for earlier, later in itertools.pairwise(waits))
    assert waits[0] == least
    if function == "linear":
        assert least + spread - 5 <= waits[-1] < least + spread
    else:
        assert waits[-1] == least + spread


@given(least=st.integers(1, 200), spread=st.integers(10, 200))
def test_a_geometric_backoff_is_rounded_down_exactly(least: int, spread: int) -> None:
    most = least + spread
    waits = delays(backoff_only("geometric", least, most))

    last = len(waits) - 1
    for step, wait in enumerate(waits):
        exact = Fraction(most, least) ** step
        assert Fraction(wait, least) ** last <= exact < Fraction(wait + 1, least) ** last


def test_the_longest_policy_is_computed_at_once() -> None:
    policy = backoff_only("geometric", 1, 43200)

    assert wait_after(policy.retries, policy) == 43200


@pytest.mark.parametrize("document", [None, {}, {"unknown": object()}])
def test_an_absent_policy_is_the_defaults(document: object) -> None:
    assert parse_policy(document) == RetryPolicy()


def test_null_fields_of_a_policy_count_as_absent() -> None:
    fields = RetryPolicy.__struct_fields__

    assert parse_policy(dict.fromkeys(fields)) == RetryPolicy()


def test_a_policy_is_read_field_by_field() -> None:
    document: dict[str, Any] = {
        "retries_with_no_delay": 1,
        "minimum_delay_retries": 0,
        "minimum_delay": 7,
        "maximum_delay": 70,
        "maximum_delay_retries": 100,
        "retry_backoff_function": "exponential",
        "ignore_subscription_override": True,
    }

    assert parse_policy(document) == RetryPolicy(**document)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "_retry_policy must be an object"),
        ("linear", "_retry_policy must be an object"),
        (False, "_retry_policy must be an object"),
        ({"retries_with_no_delay": -1}, "retries_with_no_delay .* 0 to 100 retries"),
        ({"retries_with_no_delay": 101}, "retries_with_no_delay .* 0 to 100 retries"),
        ({"retries_with_no_delay": True}, "retries_with_no_delay"),
        ({"retries_with_no_delay": 3.0}, "retries_with_no_delay"),
        ({"minimum_delay_retries": "3"}, "minimum_delay_retries"),
        ({"maximum_delay_retries": []}, "maximum_delay_retries"),
        ({"minimum_delay": -1}, "minimum_delay .* 0 to 43200 seconds"),
        ({"maximum_delay": 43201}, "maximum_delay .* 0 to 43200 seconds"),
        ({"maximum_delay": 10**30}, "maximum_delay .* 0 to 43200 seconds"),
        ({"minimum_delay": 25}, "at least 10 seconds above"),
        ({"minimum_delay": 21}, "at least 10 seconds above"),
        ({"maximum_delay": 14}, "at least 10 seconds above"),
        ({"retry_backoff_function": "quadratic"}, "linear, arithmetic, geometric, exponential"),
        ({"retry_backoff_function": ""}, "linear, arithmetic, geometric, exponential"),
        ({"retry_backoff_function": ["linear"]}, "linear, arithmetic"),
        ({"retry_backoff_function": "geometric", "minimum_delay": 0}, "at least 1 second"),
        ({"retry_backoff_function": "exponential", "minimum_delay": 0}, "at least 1 second"),
        ({"ignore_subscription_override": 1}, "true or false"),
        ({"ignore_subscription_override": "yes"}, "true or false"),
    ],
)
def test_a_wrong_policy_names_field_limit_and_unit(document: object, named: str) -> None:
    with pytest.raises(ValidationFailed, match=named):
        parse_policy(document)


@pytest.mark.parametrize(
    "document",
    [
        {"minimum_delay": 20},
        {"maximum_delay": 15},
        {"minimum_delay": 0},
        {"minimum_delay": 0, "retry_backoff_function": "arithmetic"},
        {"maximum_delay": 43200},
    ],
)
def test_a_policy_may_reach_its_limits(document: JsonObject) -> None:
    assert parse_policy(document).retries > 0


OWN = {"minimum_delay": 1}
QUEUES = {"minimum_delay": 2}
OVERRIDING = {"minimum_delay": 3, "ignore_subscription_override": True}
UNREADABLE = {"minimum_delay": -1}


@pytest.mark.parametrize(
    ("own", "queues", "minimum_delay"),
    [
        (OWN, None, 1),
        (OWN, QUEUES, 1),
        ({}, QUEUES, 2),
        (None, QUEUES, 2),
        (OWN, OVERRIDING, 3),
        (OVERRIDING, QUEUES, 2),
        (OVERRIDING, None, 5),
        (UNREADABLE, QUEUES, 5),
        (None, UNREADABLE, 5),
        ("x", None, 5),
    ],
)
def test_one_policy_applies_and_none_are_merged(
    own: object, queues: object, minimum_delay: int
) -> None:
    schedule = applicable_schedule(
        {"_retry_policy": own}, {"_retry_policy": queues}, default=STANDARD
    )

    assert schedule == RetryPolicy(
        minimum_delay=minimum_delay,
        ignore_subscription_override=queues is OVERRIDING,
    )


@pytest.mark.parametrize("own", [None, {}, "", 0])
@pytest.mark.parametrize("queues", [None, {}])
def test_the_default_applies_where_nobody_has_set_anything(own: object, queues: object) -> None:
    schedule = applicable_schedule(
        {"_retry_policy": own}, {"_retry_policy": queues}, default=STANDARD
    )

    assert schedule is STANDARD


HOUR = 3600


@pytest.mark.parametrize(
    ("name", "subscriber", "waits"),
    [
        (
            "standard",
            "https://receiver",
            [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR],
        ),
        (
            "standard",
            "mailto:user@example.org",
            [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR],
        ),
        (
            "zaqar",
            "http://receiver",
            [1, 1, 1, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30],
        ),
        ("sns", "HTTPS://receiver", [20, 20, 20]),
        (
            "sns",
            "mailto:user@example.org",
            [10, 10, 10, 15, 24, 39, 61, 97, 153, 241, 380, 600] + 38 * [600],
        ),
        (
            "sns",
            "queue:other",
            [0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 5, 7, 10, 14, 20] + 100_000 * [20],
        ),
    ],
)
def test_the_default_is_the_operators_choice(
    name: DefaultName, subscriber: str, waits: list[int]
) -> None:
    settings = Settings(retry_default=name)

    assert delays(KINDS.default_schedule(subscriber, settings)) == waits


@pytest.mark.parametrize("name", ["standard", "zaqar"])
def test_by_default_no_two_tries_are_within_a_second(name: DefaultName) -> None:
    assert min(delays(default_schedule(name, sns=SNS_HTTP))) >= 1


def test_the_default_outlasts_an_outage_of_a_day() -> None:
    assert sum(delays(STANDARD)) > 3 * 24 * HOUR


@pytest.mark.parametrize(
    ("schedule", "verdict", "status", "wait"),
    [
        (STANDARD, Verdict.REFUSED, 404, 5),
        (STANDARD, Verdict.REFUSED, 401, 5),
        (STANDARD, Verdict.TRY_LATER, 302, 5),
        (STANDARD, Verdict.TRY_LATER, None, 5),
        (STANDARD, Verdict.GONE, 410, None),
        # Refused by us, or by a mail relay for this mail: trying again changes nothing.
        (STANDARD, Verdict.REFUSED, None, None),
        (STANDARD, Verdict.REFUSED, 550, None),
        (default_schedule("zaqar", sns=SNS_HTTP), Verdict.REFUSED, 404, None),
        (default_schedule("sns", sns=SNS_HTTP), Verdict.REFUSED, 404, None),
        (RetryPolicy(), Verdict.REFUSED, 404, None),
    ],
)
def test_a_receiver_that_refuses_is_tried_again_by_standard_webhooks_schedule_alone(
    schedule: Schedule, verdict: Verdict, status: int | None, wait: int | None
) -> None:
    assert wait_after(1, schedule, verdict=verdict, status=status) == wait


def test_each_failed_try_waits_its_delay_and_the_last_gives_up() -> None:
    waits = [wait_after(attempt) for attempt in range(1, 16)]

    assert waits == [*delays(RetryPolicy()), None]


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.GONE, Verdict.DELIVERED])
def test_only_a_try_that_may_succeed_later_is_repeated(verdict: Verdict) -> None:
    assert wait_after(1, verdict=verdict) is None


@pytest.mark.parametrize(
    ("attempt", "retry_after", "wait"),
    [
        (1, 17, 17),
        (4, 3, 5),
        (4, 0, 5),
        (4, 60, 60),
        (1, -5, 0),
        (1, 10**9, MAX_RETRY_AFTER_SECONDS),
    ],
)
def test_retry_after_is_obeyed_up_to_a_day(attempt: int, retry_after: int, wait: int) -> None:
    assert wait_after(attempt, retry_after=retry_after) == wait


def test_retry_after_does_not_prolong_a_policy() -> None:
    assert wait_after(15, retry_after=60) is None


@pytest.mark.parametrize(
    ("random", "retry_after", "wait"),
    [(0.0, None, 5.0), (0.5, None, 5.25), (1.0, None, 5.5), (1.0, 100, 110.0)],
)
def test_jitter_only_adds(random: float, retry_after: int | None, wait: float) -> None:
    assert wait_after(4, jitter=0.1, random=random, retry_after=retry_after) == wait


def test_retries_at_once_have_no_jitter() -> None:
    at = next_attempt_at(
        RetryPolicy(),
        attempt=1,
        outcome=Outcome(Verdict.TRY_LATER),
        now=NOW,
        jitter=0.5,
        random=lambda: 1.0,
    )

    assert at == NOW + timedelta(0)
