"""Operations on queues. A queue need not be created before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from zaqar_notify.errors import QueueDoesNotExist, ValidationFailed
from zaqar_notify.metadata import FLAVOR, PatchStep, checked, patched, shown
from zaqar_notify.models import TOPIC_MARK, JsonObject, Queue, QueueRef, QueueStats
from zaqar_notify.pools import check_new_flavor, fixed_flavor
from zaqar_notify.rules.limits import check_limit
from zaqar_notify.rules.signing import sign_url
from zaqar_notify.rules.unread import RESERVED
from zaqar_notify.service import Service


@dataclass(frozen=True, slots=True)
class QueueList:
    """A page of queues; `count` is how many the filters let through in all, when asked for."""

    queues: list[Queue]
    count: int | None


async def create(service: Service, ref: QueueRef, metadata: JsonObject) -> bool:
    """Create the queue; an existing one keeps its metadata, and its pool.

    Returns:
        Whether it was created.
    """
    checked(metadata, service.settings)
    await check_new_flavor(service.storage, ref, metadata)
    return await service.storage.queues.create(
        ref,
        metadata=metadata,
        now=service.clock.now(),
        admit=partial(service.quotas.new_queue, ref.project),
    )


async def metadata(service: Service, ref: QueueRef) -> JsonObject | None:
    """The metadata as it is stored; None: the queue was never created."""
    queue = await service.storage.queues.get(ref)
    return None if queue is None else queue.metadata


async def show(service: Service, ref: QueueRef) -> JsonObject:
    """The metadata, reserved keys filled in; of a queue never created, just those."""
    return shown(await metadata(service, ref) or {}, service.settings, of_topic=ref.is_topic)


async def patch(service: Service, ref: QueueRef, operations: Sequence[PatchStep]) -> JsonObject:
    """Change the metadata; all operations or none.

    Returns:
        The new metadata, as stored.
    """
    settings = service.settings
    fixed = None
    if any(each.key == FLAVOR for each in operations):
        fixed = await fixed_flavor(service.storage, ref)

    def changed(stored: JsonObject) -> JsonObject:
        after = patched(stored, operations, settings, of_topic=ref.is_topic)
        if fixed is not None:
            fixed.check(stored, after)
        return after

    return await service.storage.queues.update(ref, changed)


async def replace_metadata(service: Service, ref: QueueRef, metadata: JsonObject) -> None:
    """Replace the metadata, but for reserved keys: they stay, because versions that have none can't set them again.

    Raises:
        QueueDoesNotExist: The queue was never created.
    """
    checked(metadata, service.settings)

    def replaced(stored: JsonObject) -> JsonObject:
        return {k: v for k, v in stored.items() if k.startswith(RESERVED)} | metadata

    await service.storage.queues.update(ref, replaced)


async def check_exists(service: Service, ref: QueueRef) -> None:
    """Refuse a queue that was never created; only version 1 asks for it.

    Raises:
        QueueDoesNotExist: It was not.
    """
    if await metadata(service, ref) is None:
        raise QueueDoesNotExist(ref.name)


async def delete(service: Service, ref: QueueRef) -> None:
    """Remove the queue with its messages and claims; its subscriptions stay."""
    await service.storage.queues.delete(ref, now=service.clock.now())


async def list_queues(
    service: Service,
    project: str,
    *,
    marker: str | None,
    limit: int | None,
    name_contains: str,
    metadata_equals: JsonObject,
    with_count: bool,
) -> QueueList:
    """Queues by name, after `marker`.

    Args:
        metadata_equals: Top-level keys, each with a value or with a list of values to choose from.
    """
    store = service.storage.queues
    queues = await store.list(
        project,
        marker=marker,
        limit=_page_limit(service, limit),
        name_contains=name_contains,
        metadata_equals=metadata_equals,
    )
    count = None
    if with_count:
        count = await store.count(
            project, name_contains=name_contains, metadata_equals=metadata_equals
        )
    return QueueList(queues, count)


async def list_topics(
    service: Service,
    project: str,
    *,
    marker: str | None,
    limit: int | None,
    name_contains: str,
    metadata_equals: JsonObject,
) -> list[Queue]:
    """Topics by name, after `marker`; as `list_queues`."""
    limit = _page_limit(service, limit)
    if TOPIC_MARK in name_contains:  # It is in no public name.
        return []
    return await service.storage.queues.list(
        project,
        marker=TOPIC_MARK + (marker or ""),
        limit=limit,
        name_contains=name_contains,
        metadata_equals=metadata_equals,
        topics=True,
    )


def _page_limit(service: Service, limit: int | None) -> int:
    return check_limit(limit, most=service.settings.max_queues_per_page, unit="queues")


async def stats(service: Service, ref: QueueRef) -> QueueStats:
    return await service.storage.queues.stats(ref, now=service.clock.now())


async def purge(
    service: Service, ref: QueueRef, *, messages: bool = True, subscriptions: bool = True
) -> None:
    """Remove the queue's messages, its subscriptions, or both."""
    if messages:
        async with service.storage.at(ref) as store:
            await store.messages.purge(ref, now=service.clock.now())
    if subscriptions:
        await service.storage.subscriptions.delete_all(ref)


async def share(
    service: Service,
    ref: QueueRef,
    *,
    paths: Sequence[str],
    methods: Sequence[str],
    expires_at: datetime,
) -> str:
    """The signature by which its holder uses these paths of the queue's project without a token.

    The store is asked for the generation, so a signature that is made after a revocation counts.

    Raises:
        ValidationFailed: There is no key to sign with.
    """
    secrets = service.settings.signed_url_secrets
    if not secrets:
        raise ValidationFailed("Sharing is off: ZAQAR_SIGNED_URL_SECRETS is not set")
    return sign_url(
        secrets[0].get_secret_value(),
        paths=paths,
        methods=methods,
        project=ref.project,
        expires=expires_at,
        generation=await service.storage.control.shares.generation(ref),
    )


async def revoke_shares(service: Service, ref: QueueRef) -> None:
    """Revoke all signatures that were made for the queue so far."""
    await service.storage.control.shares.revoke(ref, now=service.clock.now())
