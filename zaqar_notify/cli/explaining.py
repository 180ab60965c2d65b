"""Why something has not arrived, in words, and what to do. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from zaqar_notify.cli.output import instant, printable
from zaqar_notify.client import Delivery, Subscription, SubscriptionStats, Suppression
from zaqar_notify.client.deliveries import LastError

_REASONS = {
    "paused": (
        "It is paused{detail}, since {since}: nothing is sent, and nothing is lost.",
        "`zaqar-notify subscription resume {queue} {id}` delivers what waits, the oldest first.",
    ),
    "gone": (
        "Its receiver answered 410 (gone) at {since}, so it was disabled: nothing is sent, and nothing is lost.",
        "If the receiver is back, `zaqar-notify subscription resume {queue} {id}` delivers what waits.",
    ),
    "failing": (
        "Its receiver has failed for so long that it was disabled at {since}{detail}. Nothing is lost.",
        "Mend the receiver; then `zaqar-notify subscription resume {queue} {id}` delivers what waits.",
    ),
}
_MORE = "`zaqar-notify delivery list --subscription {id} --outcome failed` lists the attempts."


def why_subscription(
    queue: str,
    found: Subscription,
    stats: SubscriptionStats,
    *,
    suppression: Suppression | None = None,
    now: datetime | None = None,
) -> Iterator[str]:
    """Sentences about a subscription: its state, what waits, the last failure, and the way on.

    Args:
        suppression: Of its subscriber, who gets nothing then.
    """
    now = now or datetime.now(UTC)
    places = {"queue": queue, "id": found.id}
    if found.disabled is not None:
        detail = f" ({printable(found.disabled.detail)})" if found.disabled.detail else ""
        for sentence in _REASONS[found.disabled.reason]:
            yield sentence.format(detail=detail, since=instant(found.disabled.since), **places)
    if suppression is not None:
        yield (
            f"Its subscriber unsubscribed at {instant(suppression.suppressed_at)}, and gets nothing from the project. "
            f"Once its owner asks for mails again, `zaqar-notify suppression delete {suppression.id}` lets them through."
        )
    if not found.confirmed:
        yield (
            "It is not confirmed. That matters only to a service that requires confirmation "
            "(ZAQAR_REQUIRE_CONFIRMATION): there it gets nothing before its subscriber follows the link that it was sent."
        )
    if found.expires_at is not None and found.expires_at - now < timedelta(hours=1):
        yield f"It ends at {instant(found.expires_at)}: `zaqar-notify subscription update {queue} {found.id} --ttl SECONDS` lets it live on."
    if "_filter_policy" in found.options:
        yield "It has a filter policy: messages that the policy rejects are not sent."
    yield from _waiting(found, stats, places)
    yield from _attempts(stats, places)


def _waiting(
    found: Subscription, stats: SubscriptionStats, places: dict[str, str]
) -> Iterator[str]:
    # What a subscription with a line of its own (`_ordered`, a pace) has yet to send counts as parked.
    parked, held = stats.parked, stats.held
    if found.disabled is not None:
        parked, held = 0, parked + held
    waiting = [
        f"{count} {words}"
        for count, words in (
            (stats.failing, "failed and are tried again by its retry policy"),
            (parked, "wait for their turn, or until the receiver takes deliveries again"),
            (held, "wait until it is resumed"),
        )
        if count
    ]
    if waiting:
        yield f"Of its deliveries {', '.join(waiting)}. The oldest is owed for {stats.oldest_pending_age:.0f} s."
    if stats.dead:
        yield (
            f"{stats.dead} deliveries were given up: "
            "`zaqar-notify undelivered {queue} {id}` lists them with the reasons, and "
            "`zaqar-notify delivery replay {queue} {id}` makes them anew.".format(**places)
        )


def _attempts(stats: SubscriptionStats, places: dict[str, str]) -> Iterator[str]:
    breaker = stats.breaker
    if breaker.state != "closed":
        until = (
            "" if breaker.open_until is None else f"none until {instant(breaker.open_until)}, then "
        )
        yield (
            f"The last {breaker.failures} attempts failed, so it gets {until}one attempt at a time "
            "until one succeeds."
        )
    if breaker.paused_until is not None:
        yield f"It asked for a pause: it gets no attempt until {instant(breaker.paused_until)}."
    last = stats.last_error
    if last is not None and (stats.last_success_at is None or last.at > stats.last_success_at):
        yield f"The last attempt failed at {instant(last.at)}: {_reason(last)}"
        yield _MORE.format(**places)
    elif stats.last_success_at is not None:
        yield f"The last delivery arrived at {instant(stats.last_success_at)}."
    elif last is None:
        yield (
            "No attempt is known; one that succeeds is counted up to ten seconds later. If messages were posted "
            "after it was made, ask `zaqar-notify doctor` whether a worker runs; `zaqar-notify subscription test {queue} {id}` sends a message to it alone."
        ).format(**places)


def why_delivery(found: Delivery) -> Iterator[str]:
    """Sentences about one delivery."""
    last = found.attempts[-1] if found.attempts else None
    places = {"queue": found.queue, "id": found.subscription_id}
    match found.state:
        case "delivered":
            at = f" at {instant(last.at)}" if last else ""
            yield f"It arrived{at}. If it is not there, the receiver has lost it: look into its log for {found.id}."
            return
        case "retrying":
            at = f" at {instant(found.next_attempt_at)}" if found.next_attempt_at else " soon"
            yield f"It has not arrived yet, and is tried again{at}."
        case "parked":
            yield "It waits: its receiver fails, or has too much before it. It is sent when the receiver takes deliveries again."
        case "held":
            yield "It waits: its subscription is paused or disabled."
            yield "`zaqar-notify subscription resume {queue} {id}` delivers it.".format(**places)
        case _:
            yield "It was given up, and is not tried again. `zaqar-notify undelivered {queue} {id}` has its message.".format(
                **places
            )
    if last is not None:
        yield f"Attempt {last.attempt} failed at {instant(last.at)}: {_reason(LastError(last.at, last.verdict, last.status, last.detail, last.answer))}"
    yield "`zaqar-notify why {id} --queue {queue}` tells more of its subscription.".format(**places)


def _reason(last: LastError) -> str:
    answer = f"; the receiver said: {printable(last.answer)}" if last.answer else ""
    return f"{printable(last.detail) or last.verdict}{answer}. {_remedy(last)}".rstrip()


def _remedy(last: LastError) -> str:
    detail = last.detail.lower()
    match last.status:
        case 401 | 403:
            return "The receiver wants other credentials: look at `post_headers` and at the signing secret."
        case 404:
            return "The receiver has no such path: correct the subscriber's URL."
        case 408 | 504:
            return "The receiver is too slow: let it answer first, and work afterwards."
        case 413:
            return "The message is too large for the receiver."
        case 429:
            return "The receiver gets too much at once: `_max_receives_per_second` sets a pace."
        case status if status is not None and 300 <= status < 400:
            return "Redirects are not followed: subscribe the address that it leads to."
        case status if status is not None and status >= 500:
            return "The receiver has a fault of its own: look into its log."
    if "may not" in detail or "not public" in detail:
        return "The operator of the service decides which addresses may be reached."
    if "name" in detail and "not found" in detail:
        return "Correct the host name of the subscriber, or its entry in the DNS."
    if detail.startswith("tls"):
        return "Mend the receiver's certificate, or name its authority in `_tls`."
    if "no answer within" in detail:
        return "The receiver is too slow: let it answer first, and work afterwards."
    if "no connection" in detail:
        return "Nothing takes connections there: start the receiver, or correct the address and the firewall."
    return ""
