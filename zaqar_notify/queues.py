"""What can be done with queues. A queue need not be created before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from zaqar_notify import signing
from zaqar_notify.clock import host_now
from zaqar_notify.documents import read_document
from zaqar_notify.errors import BodyInvalid, UnsupportedPatchType, ValidationFailed
from zaqar_notify.jsontext import read_json
from zaqar_notify.limits import check_limit
from zaqar_notify.metadata import (
    KNOWN_KEYS,
    checked,
    parse_patch,
    patched,
    shown,
    warn_of_combinations,
)
from zaqar_notify.models import Document, Queue, QueueRef, QueueStats
from zaqar_notify.service import Service
from zaqar_notify.unread import Warn, ignore, warn_of_keys, warn_of_policy

PATCH_TYPE = "application/openstack-messaging-v2.0-json-patch"

RESOURCE_TYPES = ("messages", "subscriptions")
"""What a purge can remove."""


@dataclass(frozen=True, slots=True)
class QueueList:
    """A page of queues; `count` is how many the filters let through in all, when asked for."""

    queues: list[Queue]
    count: int | None


class PurgeBody(msgspec.Struct):
    resource_types: object = msgspec.UNSET


_purge_body = msgspec.json.Decoder(PurgeBody)


async def create(service: Service, ref: QueueRef, body: bytes, *, warn: Warn = ignore) -> bool:
    """Create the queue with the metadata in `body`; an existing one keeps its own.

    Returns:
        Whether it was created.
    """
    metadata = checked(read_json(body) if body else {}, service.settings)
    _warn_of_unread(metadata, warn)
    warn_of_combinations(ref, metadata, service.settings, warn=warn)
    return await service.storage.queues.create(ref, metadata=metadata, now=service.clock.now())


async def show(service: Service, ref: QueueRef) -> Document:
    """The metadata, reserved keys filled in; of a queue never created, just those."""
    queue = await service.storage.queues.get(ref)
    return shown({} if queue is None else queue.metadata, service.settings)


async def patch(
    service: Service, ref: QueueRef, body: bytes, *, content_type: str | None, warn: Warn = ignore
) -> Document:
    """Apply a JSON patch to the metadata; all operations or none.

    Returns:
        The new metadata, reserved keys filled in.
    """
    if content_type is None or content_type.lower() != PATCH_TYPE:
        raise UnsupportedPatchType(PATCH_TYPE)
    if not body:
        raise BodyInvalid("A JSON body is required")
    settings = service.settings
    operations = parse_patch(read_json(body))
    metadata = await service.storage.queues.update(
        ref, lambda stored: patched(stored, operations, settings)
    )
    _warn_of_unread({each.key: each.value for each in operations if each.op != "remove"}, warn)
    warn_of_combinations(ref, metadata, settings, warn=warn)
    return shown(metadata, settings)


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
    metadata_equals: Document,
    with_count: bool,
) -> QueueList:
    """Queues by name, after `marker`.

    Args:
        metadata_equals: Top-level keys, each with a value or with a list of values to choose from.
    """
    limit = check_limit(limit, most=service.settings.max_queues_per_page, unit="queues")
    store = service.storage.queues
    queues = await store.list(
        project,
        marker=marker,
        limit=limit,
        name_contains=name_contains,
        metadata_equals=metadata_equals,
    )
    count = None
    if with_count:
        count = await store.count(
            project, name_contains=name_contains, metadata_equals=metadata_equals
        )
    return QueueList(queues, count)


async def stats(service: Service, ref: QueueRef) -> QueueStats:
    return await service.storage.queues.stats(ref, now=service.clock.now())


async def purge(service: Service, ref: QueueRef, body: bytes) -> None:
    """Remove what `{"resource_types": [...]}` names; without a body messages and subscriptions."""
    kinds = _resource_types(body) if body else RESOURCE_TYPES
    if "messages" in kinds:
        await service.storage.messages.purge(ref, now=service.clock.now())
    if "subscriptions" in kinds:
        await service.storage.subscriptions.delete_all(ref)


def share(service: Service, ref: QueueRef, body: bytes) -> Document:
    """What a holder needs to use the queue without a token for a while."""
    if not body:
        raise BodyInvalid("A JSON body is required; {} will do")
    return signing.share(
        read_json(body),
        secrets=[secret.get_secret_value() for secret in service.settings.signed_url_secrets],
        project=ref.project,
        queue=ref.name,
        prefix=service.settings.public_path,
        now=host_now(service.clock),
    )


def _resource_types(body: bytes) -> Sequence[str]:
    kinds = read_document(body, _purge_body).resource_types
    if not isinstance(kinds, list):
        raise ValidationFailed("resource_types must be an array")
    for kind in kinds:
        if kind not in RESOURCE_TYPES:
            raise ValidationFailed(
                f"resource_types has {str(kind)[:80]!r}; it takes {' and '.join(RESOURCE_TYPES)}"
            )
    return kinds


def _warn_of_unread(metadata: Document, warn: Warn) -> None:
    warn_of_keys(metadata, KNOWN_KEYS, where="metadata:", warn=warn)
    warn_of_policy(metadata, warn=warn)
