"""Why something has not arrived, in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from zaqar_notify.cli.explaining import why_delivery, why_subscription
from zaqar_notify.client import Delivery, Disabled, Subscription, SubscriptionStats, Suppression
from zaqar_notify.client.deliveries import Attempt, Breaker, LastError, Latency

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SUBSCRIPTION = Subscription(
    "s1", "orders", "https://example.org/hook", 3600, 10, expires_at=NOW + timedelta(days=9)
)


def stats(**changed: Any) -> SubscriptionStats:
    values: dict[str, Any] = {
        "subscription_id": "s1",
        "since": NOW,
        "delivered": 0,
        "failed_attempts": 0,
        "postponed_attempts": 0,
        "left_out": 0,
        "failing": 0,
        "parked": 0,
        "held": 0,
        "dead": 0,
        "oldest_pending_age": 0,
        "latency_ms": Latency(),
        "breaker": Breaker("closed"),
    }
    return SubscriptionStats(**values | changed)


def told(found: Subscription = SUBSCRIPTION, **changed: Any) -> str:
    return "\n".join(why_subscription("orders", found, stats(**changed), now=NOW))


def changed(**values: Any) -> Subscription:
    fields = {name: getattr(SUBSCRIPTION, name) for name in SUBSCRIPTION.__struct_fields__}
    return Subscription(**fields | values)


@pytest.mark.parametrize("reason", ["paused", "gone", "failing"])
def test_a_subscription_that_holds_deliveries_says_so_and_how_it_goes_on(reason: str) -> None:
    found = changed(disabled=Disabled(reason, NOW, "a detail"))

    text = told(found, held=7, oldest_pending_age=90)

    assert "2026-11-30T12:00:00Z" in text
    assert "zaqar-notify subscription resume orders s1" in text
    assert "7 wait until it is resumed" in text


def test_of_a_paused_subscription_all_that_waits_does_so_for_its_resumption() -> None:
    found = changed(disabled=Disabled("paused", NOW, ""))

    text = told(found, held=1, parked=2)

    assert "3 wait until it is resumed" in text
    assert "receiver takes deliveries" not in text


def test_what_is_owed_and_what_was_given_up_is_counted() -> None:
    text = told(failing=3, parked=40, dead=2, oldest_pending_age=61.4)

    assert "3 failed and are tried again" in text
    assert "40 wait for their turn, or until the receiver takes deliveries again" in text
    assert "owed for 61 s" in text
    assert "zaqar-notify undelivered orders s1" in text


@pytest.mark.parametrize(
    ("status", "detail", "remedy"),
    [
        (None, "no connection: Connection refused", "start the receiver"),
        (None, "no connection within 3 s", "start the receiver"),
        (None, "the name a.example was not found: there is no such name", "Correct the host name"),
        (None, "TLS: the certificate is not trusted: expired", "certificate"),
        (None, "no answer within 15 s", "too slow"),
        (None, "deliveries may not reach 10.0.0.1: it is not public", "The operator"),
        (301, "HTTP 301, and redirects are not followed", "subscribe the address"),
        (401, "HTTP 401", "credentials"),
        (404, "HTTP 404", "no such path"),
        (413, "HTTP 413", "too large"),
        (429, "HTTP 429", "_max_receives_per_second"),
        (503, "HTTP 503", "look into its log"),
    ],
)
def test_the_last_failure_comes_with_a_remedy(status: int | None, detail: str, remedy: str) -> None:
    text = told(last_error=LastError(NOW, "try_later", status, detail))

    assert detail in text
    assert remedy in text


def test_a_receiver_that_is_left_alone_or_asked_for_a_pause_says_until_when() -> None:
    later = NOW + timedelta(seconds=30)

    failing = told(breaker=Breaker("open", later, None, 7))
    pausing = told(breaker=Breaker("closed", None, later))

    assert "The last 7 attempts failed, so it gets none until 2026-11-30T12:00:30Z" in failing
    assert "asked for a pause: it gets no attempt until 2026-11-30T12:00:30Z" in pausing


def test_a_failure_before_the_last_success_is_not_the_reason() -> None:
    last = LastError(NOW - timedelta(hours=1), "try_later", 503, "HTTP 503")

    text = told(last_error=last, last_success_at=NOW)

    assert "HTTP 503" not in text
    assert "The last delivery arrived at 2026-11-30T12:00:00Z" in text


def test_without_any_attempt_the_way_on_is_named() -> None:
    assert "zaqar-notify subscription test orders s1" in told()


def test_a_filter_an_end_and_a_missing_confirmation_are_told() -> None:
    found = changed(
        confirmed=False, expires_at=NOW + timedelta(minutes=5), options={"_filter_policy": {}}
    )

    text = told(found)

    assert "not confirmed" in text
    assert "filter policy" in text
    assert "It ends at 2026-11-30T12:05:00Z" in text


def test_a_subscriber_that_has_unsubscribed_is_told() -> None:
    suppression = Suppression("a1", "mailto:@example.org", "orders", "s1", NOW)

    text = "\n".join(why_subscription("orders", SUBSCRIPTION, stats(), suppression=suppression))

    assert "unsubscribed at 2026-11-30T12:00:00Z" in text
    assert "zaqar-notify suppression delete a1" in text


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("delivered", "It arrived"),
        ("retrying", "tried again at 2026-11-30T12:00:00Z"),
        ("parked", "when the receiver takes deliveries again"),
        ("held", "subscription resume orders s1"),
        ("undelivered", "zaqar-notify undelivered orders s1"),
    ],
)
def test_a_delivery_says_its_state(state: str, sentence: str) -> None:
    attempt = Attempt(
        "a", "msg_1", "m", "orders", "s1", 2, NOW, "try_later", 9, 80, state, 503, "HTTP 503"
    )
    found = Delivery("msg_1", "orders", "s1", "m", state, NOW, [attempt])

    text = "\n".join(why_delivery(found))

    assert sentence in text
    assert ("Attempt 2 failed" in text) == (state != "delivered")


def test_what_a_receiver_said_can_not_act_on_the_terminal() -> None:
    last = LastError(NOW, "try_later", 500, "HTTP 500", "\x1b[2Jgone\nand more")

    assert "\x1b" not in told(last_error=last)
