"""Operations on messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from zaqar_notify.delivery.filters import Body, Filters, Permits
from zaqar_notify.delivery.posts import (
    RELAY_CLIENT,
    ClientPost,
    PostedMessage,
    QueuePost,
    RelayedPost,
)
from zaqar_notify.errors import MessageDoesNotExist, NotifyError, NotPermitted, ValidationFailed
from zaqar_notify.models import Message, NewMessage, Page, Posted, QueueRef
from zaqar_notify.quotas import Storing
from zaqar_notify.rules.attributes import from_raw, raw
from zaqar_notify.rules.limits import check_limit, check_range, distinct_ids
from zaqar_notify.service import Service
from zaqar_notify.storage.base import IdempotencyKey, Watch
from zaqar_notify.waiting import Wait, first_found


def anywhere(_ref: QueueRef) -> None:
    """Permits every queue of the project."""


class Receipt(msgspec.Struct, frozen=True):
    """The result of a post.

    `ids` are its messages' ids in order; `never_seen` those messages that expire before they are due; `ref` is the
    queue that has them, which a filter may have chosen.
    """

    ids: list[str]
    never_seen: list[NewMessage]
    ref: QueueRef


async def post(
    service: Service,
    ref: QueueRef,
    messages: Sequence[PostedMessage],
    *,
    size: int,
    client_id: str,
    idempotency_key: IdempotencyKey | None = None,
    request_id: str = "",
    hops: int = 0,
    permits: Permits = anywhere,
) -> Receipt:
    """Store the messages; all of them or none.

    Args:
        size: Bytes of the request, which the queue may bound.
        idempotency_key: A second post with the same key and fingerprint stores nothing and is answered
            as the first.
        hops: Queues that the messages have crossed, this one included, when a webhook of a queue's
            subscription brings them. A loop of webhooks would multiply them for ever.
        permits: Refuses queues to which a filter may not route them for this caller.

    Raises:
        RateExceeded: The project posts too many.
        QuotaExceeded: The project has no room for them, or for the queue.
    """
    settings = service.settings
    if hops > settings.delivery_max_hops:
        raise ValidationFailed(
            f"The messages crossed {hops - 1} queues already; at most {settings.delivery_max_hops} "
            "are allowed; do queues notify each other in a loop?"
        )
    service.quotas.admit_messages(ref.project, len(messages))
    filtered = _Filtered(ref, messages, size, idempotency_key)
    if service.filters is not None:
        filtered = await _filtered(
            service.filters, filtered, client_id=client_id, request_id=request_id, permits=permits
        )
    ref = filtered.ref
    post = ClientPost(
        ref,
        filtered.messages,
        size=filtered.size,
        client_id=client_id,
        idempotency_key=filtered.idempotency_key,
        request_id=request_id,
        hops=hops,
        settings=settings,
        clock=service.clock,
    )
    post.must_encrypt, post.refusal = filtered.must_encrypt, filtered.refusal
    posted = await _store(service, ref, post, service.quotas.new_bytes)
    service.metrics.posts += 1
    service.metrics.messages_posted += len(posted.ids)
    return Receipt(posted.ids, post.never_seen, ref)


@dataclass(slots=True)
class _Filtered:
    """A client's post on its way to the store."""

    ref: QueueRef
    messages: Sequence[PostedMessage]
    size: int
    idempotency_key: IdempotencyKey | None
    must_encrypt: bool = False
    refusal: NotifyError | None = None


async def _filtered(
    filters: Filters, post: _Filtered, *, client_id: str, request_id: str, permits: Permits
) -> _Filtered:
    """The post as the filters leave it. One that they refuse is answered all the same if it repeats one that was
    stored: its key knows the client's post, and not what filters make of it."""
    key = post.idempotency_key
    given = tuple(
        Body(bytes(one.body), _set(one.ttl), _set(one.delay), from_raw(one.attributes))
        for one in post.messages
    )
    try:
        passed = await filters.passed(
            post.ref, given, client_id=client_id, request_id=request_id, permits=permits
        )
    except (ValidationFailed, NotPermitted) as refusal:
        if key is None:
            raise
        post.refusal = refusal
        return post
    if key is not None and passed.ref != post.ref:
        key = key.of(post.ref.name)
    grown = sum(body.size for body in passed.messages) - sum(body.size for body in given)
    messages = [
        msgspec.structs.replace(
            one,
            body=msgspec.Raw(body.text),
            ttl=_or_unset(body.ttl),
            delay=_or_unset(body.delay),
            attributes=raw(body.attributes),
        )
        for one, body in zip(post.messages, passed.messages, strict=True)
    ]
    return _Filtered(passed.ref, messages, post.size + grown, key, passed.must_encrypt)


def _set(seconds: int | msgspec.UnsetType) -> int | None:
    return None if seconds is msgspec.UNSET else seconds


def _or_unset(seconds: int | None) -> int | msgspec.UnsetType:
    return msgspec.UNSET if seconds is None else seconds


async def relay(
    service: Service,
    ref: QueueRef,
    message: NewMessage,
    *,
    origin: str,
    hops: int,
    visited: Sequence[str] = (),
    request_id: str = "",
) -> None:
    """Store a message that a subscription of another queue sends to this one; once for each `origin`.

    Raises:
        ValidationFailed, NotPermitted: The queue, or a filter, does not take it.
        QuotaExceeded: The project has no room for it.
        FilterFailed: A filter failed.
    """
    sent, must_encrypt = message.body, False
    if service.filters is not None:
        passed = await service.filters.passed(
            ref,
            (Body(sent, message.ttl, attributes=message.attributes),),
            client_id=RELAY_CLIENT,
            request_id=request_id,
            permits=anywhere,
            is_relayed=True,
        )
        [body] = passed.messages
        ref, must_encrypt = passed.ref, passed.must_encrypt
        ttl = message.ttl if body.ttl is None else body.ttl
        message = msgspec.structs.replace(
            message, body=body.text, ttl=ttl, attributes=body.attributes
        )
    relayed = RelayedPost(
        ref,
        message,
        origin=origin,
        visited=visited,
        hops=hops,
        request_id=request_id,
        settings=service.settings,
        sent_body=sent,
    )
    relayed.must_encrypt = must_encrypt
    await _store(service, ref, relayed, service.quotas.relayed_bytes)


async def _store(
    service: Service, ref: QueueRef, post: QueuePost, room: Callable[[str, int], Storing[str]]
) -> Posted:
    quotas, project = service.quotas, ref.project
    post.when_owed = lambda: service.doorbell.ring_soon(service.partition_of(ref))
    async with room(project, post.size) as refusal:
        post.refusal = post.refusal or refusal
        posted = await service.schemas.stored(
            post.fitting,
            lambda: service.storage.post(
                ref, post, now=service.clock.now(), admit=partial(quotas.new_queue, project)
            ),
        )
    if posted.owes_deliveries:
        service.doorbell.ring(service.partition_of(ref))
    return posted


async def page(
    service: Service,
    ref: QueueRef,
    *,
    marker: str | None,
    limit: int | None,
    without_client: str | None,
    include_claimed: bool,
    include_delayed: bool,
    wait: Wait | None = None,
) -> Page:
    """Messages in order, after `marker`; with `wait`, an empty page is put off while nothing comes."""
    limit = check_limit(limit, most=service.settings.max_messages_per_page, unit="messages")

    async def look() -> Page:
        async with service.storage.at(ref) as store:
            return await store.messages.page(
                ref,
                marker=marker,
                limit=limit,
                now=service.clock.now(),
                without_client=without_client,
                include_claimed=include_claimed,
                include_delayed=include_delayed,
            )

    async def look_for_some() -> Page | None:
        page = await look()
        return page if page.messages else None

    if wait is None:
        return await look()
    return await first_found(look_for_some, watch(service, ref), wait) or Page([], None)


def watch(service: Service, ref: QueueRef) -> Watch:
    """An observer's wait for changes of the queue, to be opened before the first page."""
    return service.storage.watch(ref)


async def has_queue(service: Service, ref: QueueRef) -> bool:
    """Whether messages can be on the queue: it was made, and not deleted since."""
    async with service.storage.at(ref) as store:
        return await store.heads.get(ref) is not None


async def get(service: Service, ref: QueueRef, message_id: str) -> Message:
    async with service.storage.at(ref) as store:
        found = await store.messages.get(ref, [message_id], now=service.clock.now())
    if not found:
        raise MessageDoesNotExist(ref.name, message_id)
    return found[0]


async def get_many(service: Service, ref: QueueRef, ids: Sequence[str]) -> list[Message]:
    """Those that exist among `ids`; at least one does."""
    found = await find_many(service, ref, ids)
    if not found:
        raise MessageDoesNotExist(ref.name, *dict.fromkeys(ids))
    return found


async def find_many(service: Service, ref: QueueRef, ids: Sequence[str]) -> list[Message]:
    """Those that exist among `ids`; perhaps none."""
    distinct = distinct_ids(ids, most=service.settings.max_messages_per_page)
    async with service.storage.at(ref) as store:
        return await store.messages.get(ref, distinct, now=service.clock.now())


async def delete(service: Service, ref: QueueRef, message_id: str, *, claim_id: str | None) -> None:
    async with service.storage.at(ref) as store:
        await store.messages.delete(ref, message_id, claim_id=claim_id, now=service.clock.now())


async def delete_many(
    service: Service, ref: QueueRef, ids: Sequence[str], *, claim_ids: Sequence[str] | None
) -> None:
    """Delete those that exist among `ids`.

    Args:
        claim_ids: None deletes claimed messages, too; else they go only under one of these claims.
    """
    distinct = distinct_ids(ids, most=service.settings.max_messages_per_page)
    async with service.storage.at(ref) as store:
        await store.messages.delete_many(
            ref, distinct, claim_ids=claim_ids, now=service.clock.now()
        )


async def pop(service: Service, ref: QueueRef, count: int) -> list[Message]:
    most = service.settings.max_messages_per_claim_or_pop
    check_range("pop", count, least=1, most=most, unit="messages")
    async with service.storage.at(ref) as store:
        return await store.messages.pop(ref, limit=count, now=service.clock.now())
