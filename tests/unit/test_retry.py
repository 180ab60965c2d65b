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
from zaqar_notify.rules.backoffs import Backoff
from zaqar_notify.rules.retry import (
    MAX_RETRY_AFTER_SECONDS,
    Plan,
    applicable_plan,
    next_attempt_at,
)
from zaqar_notify.rules.retry_policy import (
    NO_BOUNDS,
    POLICY_FIELDS,
    Bounds,
    RetryPolicy,
    parse_policy,
)
from zaqar_notify.rules.schedules import (
    SNS_HTTP,
    STANDARD_WEBHOOKS,
    Preset,
    Schedule,
    delays,
    preset_schedule,
)
from zaqar_notify.rules.sns_phases import SnsPhases
from zaqar_notify.rules.zaqar_phases import ZaqarPhases

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
STANDARD = STANDARD_WEBHOOKS


def named(preset: Preset | None) -> Schedule:
    return preset_schedule(preset or "standard", sns=SNS_HTTP)


BACKOFFS: list[Backoff] = ["linear", "arithmetic", "geometric", "exponential"]


def backoff_only(function: Backoff, least: int, most: int) -> ZaqarPhases:
    return ZaqarPhases(
        retries_with_no_delay=0,
        minimum_delay_retries=0,
        minimum_delay=least,
        maximum_delay=most,
        maximum_delay_retries=0,
        retry_backoff_function=function,
    )


def wait_after(
    attempt: int,
    schedule: Schedule | None = None,
    *,
    bounds: Bounds = NO_BOUNDS,
    verdict: Verdict = Verdict.TRY_LATER,
    status: int | None = None,
    retry_after: int | None = None,
    jitter: float = 0.0,
    random: float = 0.0,
) -> float | None:
    at = next_attempt_at(
        Plan(schedule or ZaqarPhases(), bounds),
        attempt=attempt,
        outcome=Outcome(verdict, status, retry_after_seconds=retry_after),
        now=NOW,
        jitter=jitter,
        random=lambda: random,
    )
    return None if at is None else (at - NOW).total_seconds()


def test_the_defaults_make_fourteen_retries_over_three_minutes() -> None:
    waits = delays(ZaqarPhases())

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
    assert parse_policy(document) == RetryPolicy(ZaqarPhases())


def test_null_fields_of_a_policy_count_as_absent() -> None:
    assert parse_policy(dict.fromkeys(POLICY_FIELDS)) == RetryPolicy(ZaqarPhases())


def test_a_policy_is_read_field_by_field() -> None:
    document: dict[str, Any] = {
        "retries_with_no_delay": 1,
        "minimum_delay_retries": 0,
        "minimum_delay": 7,
        "maximum_delay": 70,
        "maximum_delay_retries": 100,
        "retry_backoff_function": "exponential",
    }

    read = parse_policy(document | {"ignore_subscription_override": True})

    assert read == RetryPolicy(ZaqarPhases(**document))


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "_retry_policy must be an object"),
        ("standard", '{"preset": "standard"}'),
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
        ({"preset": "svix"}, "standard, zaqar, sns"),
        ({"preset": ["sns"]}, "standard, zaqar, sns"),
        ({"preset": "sns", "minimum_delay": 5}, "preset .* and minimum_delay .* can't be combined"),
        ({"preset": "sns", "http": {}}, "preset .* and http .* can't be combined"),
        ({"minimum_delay": 5, "healthyRetryPolicy": {}}, "minimum_delay .* can't be combined"),
        ({"jitter": 1.1}, "jitter must be a number from 0 to 1"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": True}, "jitter"),
        ({"jitter": "0.5"}, "jitter"),
        ({"max_age": 0}, "max_age .* 1 to 31536000 seconds"),
        ({"max_age": 31_536_001}, "max_age"),
        ({"max_age": 60.0}, "max_age"),
        ({"final_statuses": 404}, "final_statuses must be an array of at most 300 statuses"),
        ({"final_statuses": [404] * 301}, "at most 300 statuses"),
        ({"final_statuses": [200]}, "integers from 300 to 599, and any of 3xx, 4xx, 5xx"),
        ({"final_statuses": [600]}, "300 to 599"),
        ({"final_statuses": ["404"]}, "300 to 599"),
        ({"final_statuses": [True]}, "300 to 599"),
        ({"final_statuses": [[]]}, "300 to 599"),
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
    assert isinstance(parse_policy(document).waits, ZaqarPhases)


@pytest.mark.parametrize(
    ("healthy", "waits"),
    [
        # The sample of SNS's guide: 50 retries.
        (
            {
                "minDelayTarget": 1,
                "maxDelayTarget": 60,
                "numRetries": 50,
                "numNoDelayRetries": 3,
                "numMinDelayRetries": 2,
                "numMaxDelayRetries": 35,
                "backoffFunction": "exponential",
            },
            [0, 0, 0, 1, 1, 1, 1, 2, 3, 6, 9, 15, 24, 38, 60, *35 * [60]],
        ),
        ({}, [20, 20, 20]),
        ({"numRetries": 5}, [20] * 5),
        ({"numRetries": 0}, []),
        ({"minDelayTarget": 1, "numRetries": 1}, [1]),
        ({"minDelayTarget": 10, "numRetries": 2}, [10, 20]),
        ({"minDelayTarget": 5, "maxDelayTarget": 30, "numRetries": 6}, [5, 10, 15, 20, 25, 30]),
        (
            {
                "minDelayTarget": 5,
                "maxDelayTarget": 30,
                "numRetries": 5,
                "backoffFunction": "arithmetic",
            },
            [5, 7, 12, 20, 30],
        ),
        (
            {
                "minDelayTarget": 5,
                "maxDelayTarget": 30,
                "numRetries": 5,
                "backoffFunction": "geometric",
            },
            [5, 7, 12, 19, 30],
        ),
        ({"numMaxDelayRetries": 1, "numNoDelayRetries": 2, "maxDelayTarget": 60}, [0, 0, 60]),
        ({"maxDelayTarget": 3600, "minDelayTarget": 3600, "numRetries": 1}, [3600]),
        ({"numRetries": 100, "numNoDelayRetries": 100}, [0] * 100),
        (dict.fromkeys(["numRetries", "minDelayTarget", "backoffFunction"]), [20, 20, 20]),
    ],
)
@pytest.mark.parametrize("form", ["subscription", "topic"])
def test_an_sns_policy_waits_as_sns_does(healthy: JsonObject, waits: list[int], form: str) -> None:
    document = (
        {"healthyRetryPolicy": healthy}
        if form == "subscription"
        else {"http": {"defaultHealthyRetryPolicy": healthy}}
    )

    read = parse_policy(document)

    assert isinstance(read.waits, SnsPhases)
    assert delays(read.waits) == waits


@pytest.mark.parametrize(
    ("healthy", "named"),
    [
        ([], "_retry_policy: healthyRetryPolicy must be an object"),
        ({"numRetries": 101}, "healthyRetryPolicy: numRetries .* 0 to 100 retries"),
        ({"numRetries": -1}, "numRetries .* 0 to 100 retries"),
        ({"numRetries": 3.0}, "numRetries"),
        ({"numRetries": True}, "numRetries"),
        ({"minDelayTarget": 0}, "minDelayTarget .* 1 to 3600 seconds"),
        ({"maxDelayTarget": 3601}, "maxDelayTarget .* 1 to 3600 seconds"),
        ({"minDelayTarget": 21}, "minDelayTarget .21 seconds. .* maxDelayTarget .20 seconds."),
        ({"backoffFunction": "quadratic"}, "linear, arithmetic, geometric, exponential"),
        ({"backoffFunction": ["linear"]}, "linear, arithmetic"),
        ({"numNoDelayRetries": 2, "numMinDelayRetries": 2}, "make 4 retries, .* is 3"),
        ({"numMaxDelayRetries": 4}, "make 4 retries"),
        ({"maxDelayTarget": 3600, "numRetries": 2}, "take 3620 seconds; at most 3600"),
    ],
)
def test_a_wrong_sns_policy_names_field_limit_and_unit(healthy: object, named: str) -> None:
    with pytest.raises(ValidationFailed, match=named):
        parse_policy({"healthyRetryPolicy": healthy})


@pytest.mark.parametrize(
    ("http", "named"),
    [
        ("x", "_retry_policy: http must be an object"),
        ({"defaultHealthyRetryPolicy": 5}, "http: defaultHealthyRetryPolicy must be an object"),
        ({"disableSubscriptionOverrides": "yes"}, "disableSubscriptionOverrides .* true or false"),
        ({"defaultHealthyRetryPolicy": {"numRetries": -1}}, "http: defaultHealthyRetryPolicy: num"),
    ],
)
def test_a_wrong_policy_of_a_topic_names_the_place(http: object, named: str) -> None:
    with pytest.raises(ValidationFailed, match=named):
        parse_policy({"http": http})


def test_both_forms_of_sns_at_once_are_refused() -> None:
    healthy = {"numRetries": 1}

    with pytest.raises(ValidationFailed, match="can't be combined"):
        parse_policy(
            {"healthyRetryPolicy": healthy, "http": {"defaultHealthyRetryPolicy": healthy}}
        )


def test_options_stand_beside_every_form() -> None:
    read = parse_policy(
        {"preset": "sns", "jitter": 0.5, "final_statuses": [404, "5xx"], "max_age": 3600}
    )

    assert read.bounds == Bounds(0.5, frozenset({404, *range(500, 600)}), 3600)


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
    plan = applicable_plan({"_retry_policy": own}, {"_retry_policy": queues}, named=named)

    assert plan == Plan(ZaqarPhases(minimum_delay=minimum_delay))


@pytest.mark.parametrize("own", [None, {}, "", 0])
@pytest.mark.parametrize("queues", [None, {}])
def test_the_default_applies_where_nobody_has_set_anything(own: object, queues: object) -> None:
    plan = applicable_plan({"_retry_policy": own}, {"_retry_policy": queues}, named=named)

    assert plan == Plan(STANDARD)


@pytest.mark.parametrize(
    "queues",
    [
        {"http": {"disableSubscriptionOverrides": True}},
        {"preset": "sns", "ignore_subscription_override": True},
    ],
)
def test_a_queue_s_policy_of_any_form_can_override_the_subscription_s(queues: JsonObject) -> None:
    plan = applicable_plan({"_retry_policy": OWN}, {"_retry_policy": queues}, named=named)

    assert delays(plan.schedule) == [20, 20, 20]


@pytest.mark.parametrize(
    ("policy", "schedule"),
    [
        ({"preset": "standard"}, STANDARD),
        ({"preset": "zaqar"}, named("zaqar")),
        ({"preset": "sns"}, SNS_HTTP),
        ({"jitter": 0.5}, STANDARD),
        ({"max_age": 60, "ignore_subscription_override": False}, STANDARD),
        ({"final_statuses": [], "minimum_delay": 5}, ZaqarPhases()),
        ({"healthyRetryPolicy": {}, "max_age": 60}, SnsPhases()),
    ],
)
def test_a_policy_names_a_schedule_or_leaves_the_operator_s(
    policy: JsonObject, schedule: Schedule
) -> None:
    plan = applicable_plan({"_retry_policy": policy}, {}, named=named)

    assert plan.schedule == schedule


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
def test_each_kind_of_subscriber_has_its_schedule_by_name(
    name: Preset, subscriber: str, waits: list[int]
) -> None:
    assert delays(KINDS.schedule(subscriber, name)) == waits


@pytest.mark.parametrize("name", ["standard", "zaqar"])
def test_by_default_no_two_tries_are_within_a_second(name: Preset) -> None:
    assert min(delays(named(name))) >= 1


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
        (named("zaqar"), Verdict.REFUSED, 404, None),
        (named("sns"), Verdict.REFUSED, 404, None),
        (ZaqarPhases(), Verdict.REFUSED, 404, None),
    ],
)
def test_a_receiver_that_refuses_is_tried_again_by_standard_webhooks_schedule_alone(
    schedule: Schedule, verdict: Verdict, status: int | None, wait: int | None
) -> None:
    assert wait_after(1, schedule, verdict=verdict, status=status) == wait


@pytest.mark.parametrize(
    ("schedule", "final", "verdict", "status", "wait"),
    [
        (STANDARD, {404}, Verdict.REFUSED, 404, None),
        (STANDARD, {404}, Verdict.REFUSED, 400, 5),
        (STANDARD, {500}, Verdict.TRY_LATER, 500, None),
        (STANDARD, {500}, Verdict.TRY_LATER, 503, 5),
        (STANDARD, {429}, Verdict.TRY_LATER, 429, None),
        (STANDARD, {500}, Verdict.TRY_LATER, None, 5),
        (SNS_HTTP, set(), Verdict.REFUSED, 404, 20),
        (SNS_HTTP, {400}, Verdict.REFUSED, 404, 20),
        (SNS_HTTP, set(), Verdict.GONE, 410, None),
        # A mail relay's 5yz, and a refusal of our own, are final without a list.
        (SNS_HTTP, set(), Verdict.REFUSED, 550, None),
        (SNS_HTTP, set(), Verdict.REFUSED, None, None),
    ],
)
def test_a_policy_s_final_statuses_stand_in_place_of_the_schedule_s(
    schedule: Schedule, final: set[int], verdict: Verdict, status: int | None, wait: int | None
) -> None:
    bounds = Bounds(final_statuses=frozenset(final))

    assert wait_after(1, schedule, bounds=bounds, verdict=verdict, status=status) == wait


def test_a_policy_s_jitter_stands_in_place_of_the_operator_s() -> None:
    assert wait_after(4, bounds=Bounds(jitter=1.0), jitter=0.1, random=1.0) == 10
    assert wait_after(4, bounds=Bounds(jitter=0.0), jitter=0.1, random=1.0) == 5


def test_each_failed_try_waits_its_delay_and_the_last_gives_up() -> None:
    waits = [wait_after(attempt) for attempt in range(1, 16)]

    assert waits == [*delays(ZaqarPhases()), None]


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
        Plan(ZaqarPhases()),
        attempt=1,
        outcome=Outcome(Verdict.TRY_LATER),
        now=NOW,
        jitter=0.5,
        random=lambda: 1.0,
    )

    assert at == NOW + timedelta(0)
