"""Deliveries as the log knows them: their attempts, and their present state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from zaqar_notify.delivery import (
    UNDELIVERED_TTL_SECONDS,
    OwedDelivery,
    delivery_id,
    read_undelivered,
    read_work,
)
from zaqar_notify.delivery.attempts import Attempt, State
from zaqar_notify.errors import DeliveryNotLogged, ValidationFailed
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.limits import check_limit
from zaqar_notify.service import Service
from zaqar_notify.storage.control import SubscriptionPlace
from zaqar_notify.storage.internal import held_ref, parked_ref, undelivered_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.subscriptions.log import (
    LOGS_AT_ONCE,
    Logged,
    Place,
    Wanted,
    Where,
    attempts_of,
    left_out,
    look,
    places,
    read_place,
)

RECORDS_AT_ONCE = 100
MOST_RECORDS = 1000
"""Records of one internal queue through which a delivery is looked for."""
LOGS_FOR_ONE = 1000
"""Logs through which a delivery is looked for, where its subscription is not named."""


class LoggedDelivery(msgspec.Struct, frozen=True):
    """A delivery with the attempts that the log has. `next_at` is the instant of its next attempt, if it is known."""

    id: str
    queue: QueueRef
    subscription_id: str
    message_id: str
    state: State
    next_at: datetime | None
    attempts: list[Logged]


class DeliveryPage(msgspec.Struct, frozen=True):
    deliveries: list[LoggedDelivery]
    marker: str | None


class AttemptPage(msgspec.Struct, frozen=True):
    """`left_out` counts attempts at these subscriptions that the log did not keep."""

    attempts: list[Logged]
    marker: str | None
    left_out: int


async def attempts(
    service: Service, where: Where, wanted: Wanted, *, marker: str | None, limit: int | None
) -> AttemptPage:
    """A page of the log.

    Raises:
        ValidationFailed: The marker or the limit is wrong.
    """
    now = service.clock.now()
    page = await look(
        service.storage,
        where,
        wanted,
        after=_place(marker),
        limit=check_limit(limit, most=service.settings.max_messages_per_page, unit="attempts"),
        now=now,
    )
    return AttemptPage(
        page.attempts, page.marker, await left_out(service.storage, page.attempts, now=now)
    )


async def delivery(service: Service, where: Where, wanted_id: str) -> LoggedDelivery:
    """One delivery, by its id.

    Raises:
        DeliveryNotLogged: The log has no attempt of it, and it does not wait for one.
        ValidationFailed: There are too many subscriptions to look through.
    """
    storage, now = service.storage, service.clock.now()
    looked = 0
    async for place in places(storage, where, after=None, now=now):
        looked += 1
        if looked > LOGS_FOR_ONE:
            raise ValidationFailed(
                f"The project has more than {LOGS_FOR_ONE} subscriptions: name the delivery's queue or subscription"
            )
        found = await _find(service, where.project, place, Wanted(delivery_id=wanted_id), now=now)
        if found is None and where.subscription_id is not None:
            queue = QueueRef(where.project, place.queue)
            found = (await _look(storage, queue, place.id, wanted_id, now=now)).found
        if found is not None:
            return found
    raise DeliveryNotLogged(wanted_id)


async def deliveries_of_message(
    service: Service, ref: QueueRef, message_id: str, *, marker: str | None, limit: int | None
) -> DeliveryPage:
    """The deliveries of a message that the log has, one for each subscription, in order of these."""
    storage, now = service.storage, service.clock.now()
    most = check_limit(limit, most=service.settings.max_messages_per_page, unit="deliveries")
    found: list[LoggedDelivery] = []
    looked, last = 0, marker
    after = None if marker is None else Place(ref.name, marker)
    async for place in places(storage, Where(ref.project, ref.name), after=after, now=now):
        if looked == LOGS_AT_ONCE or len(found) == most:
            return DeliveryPage(found, last)
        one = await _find(service, ref.project, place, Wanted(message_id=message_id), now=now)
        found += [one] if one is not None else []
        looked, last = looked + 1, place.id
    return DeliveryPage(found, last if found else None)


def _place(marker: str | None) -> Place | None:
    place = None if marker is None else read_place(marker)
    if marker is not None and place is None:
        raise ValidationFailed("marker must be that of a link of an earlier page")
    return place


async def _find(
    service: Service, project: str, at: SubscriptionPlace, wanted: Wanted, *, now: datetime
) -> LoggedDelivery | None:
    queue = QueueRef(project, at.queue)
    found = [
        logged
        async for logged in attempts_of(service.storage, queue, at.id, now=now)
        if wanted.fits(logged.attempt)
    ]
    if not found:
        return None
    last = found[-1].attempt
    state = await _present_state(service, queue, at.id, last, now=now)
    next_at = last.next_at if state is State.RETRYING else None
    return LoggedDelivery(last.delivery_id, queue, at.id, last.message_id, state, next_at, found)


async def _present_state(
    service: Service, queue: QueueRef, subscription_id: str, last: Attempt, *, now: datetime
) -> State:
    """The state after the last attempt, or a later one that came without an attempt."""
    storage, host_now = service.storage, service.clock.on_host(now)
    is_due_later = last.next_at is not None and last.next_at > host_now
    if last.state is State.DELIVERED or (last.state is State.RETRYING and is_due_later):
        return last.state
    look = await _look(storage, queue, subscription_id, last.delivery_id, now=now)
    if look.found is not None:
        return look.found.state
    if not look.is_complete:
        return last.state
    if last.state is State.HELD:
        # Its attempts began anew, and the log may leave out a first one that succeeds.
        return State.DELIVERED
    is_recorded = host_now - last.at < timedelta(seconds=UNDELIVERED_TTL_SECONDS)
    if last.state is State.UNDELIVERED and is_recorded:
        return State.RETRYING  # A replay has taken it.
    return last.state


class _Look(msgspec.Struct, frozen=True):
    """The delivery as it lies on an own queue of its subscription, and whether all of them were looked through."""

    found: LoggedDelivery | None
    is_complete: bool = True


async def _look(
    storage: Storage, queue: QueueRef, subscription_id: str, wanted_id: str, *, now: datetime
) -> _Look:
    is_complete = True
    for state, ref in (
        (State.UNDELIVERED, undelivered_ref(subscription_id)),
        (State.PARKED, parked_ref(subscription_id)),
        (State.HELD, held_ref(subscription_id)),
    ):
        seen = 0
        async for body in _records(storage, queue, ref, now=now):
            seen += 1
            owed_id, message_id = _names(body, subscription_id)
            if owed_id == wanted_id:
                return _Look(
                    LoggedDelivery(wanted_id, queue, subscription_id, message_id, state, None, [])
                )
        is_complete &= seen < MOST_RECORDS
    return _Look(None, is_complete)


async def _records(
    storage: Storage, queue: QueueRef, ref: QueueRef, *, now: datetime
) -> AsyncIterator[bytes]:
    marker: str | None = None
    for _ in range(MOST_RECORDS // RECORDS_AT_ONCE):
        async with storage.at(queue) as store:
            page = await store.messages.page(
                ref, marker=marker, limit=RECORDS_AT_ONCE, now=now, include_claimed=True
            )
        for message in page.messages:
            yield message.body
        if page.marker is None:
            return
        marker = page.marker


def _names(body: bytes, subscription_id: str) -> tuple[str, str]:
    """The ids of the delivery and of the message in a record; empty where it can't be read here."""
    with suppress(ValueError):
        work = read_work(body)
        if isinstance(work, OwedDelivery):
            return delivery_id(subscription_id, work.message.id), work.message.id
    with suppress(ValueError):
        undelivered = read_undelivered(body)
        return undelivered.delivery_id, undelivered.message_id
    return "", ""
