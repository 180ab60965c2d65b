"""Message filters of other packages. Each sees a post before it is stored, and may change, refuse or route it.

The store's own checks come afterwards, so what a filter makes of a post obeys every limit.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import entry_points

import msgspec
import orjson

from zaqar_notify.errors import (
    FilterFailed,
    NotPermitted,
    StartRefused,
    ValidationFailed,
)
from zaqar_notify.extensions import load
from zaqar_notify.findings import Finding
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import JsonObject, QueueRef
from zaqar_notify.rules.attributes import canonical
from zaqar_notify.rules.jsontext import check_depth_of_text, check_json_text
from zaqar_notify.rules.names import queue_ref, topic_ref
from zaqar_notify.settings import Settings

ENTRY_POINTS = "zaqar_notify.filters"
"""The group in which a package names its filter: `mask = "my_package.mask:MaskFilter"`."""

MOST_SECONDS = 10.0
"""After which a filter has failed: the client waits meanwhile."""

RESULTS = ("changed", "routed", "refused", "failed")
"""The effects of a filter on a post, beside none."""

Permits = Callable[[QueueRef], None]
"""Raises the error by which the caller may not post to the queue."""

logger = logging.getLogger(__name__)


class Body(msgspec.Struct, frozen=True):
    """A message of a post: JSON text as the client sent it, and seconds; None takes the queue's default.

    `attributes` is the JSON text of the message's attributes, each with its type; None: it has none.
    """

    text: bytes
    ttl: int | None = None
    delay: int | None = None
    attributes: bytes | None = None

    @property
    def size(self) -> int:
        return len(self.text) + len(self.attributes or b"")


class Posting(msgspec.Struct, frozen=True):
    """A post as a filter sees it.

    `queue` is the queue that it goes to, or the topic; `metadata` is that one's, as it was stored by a client.
    `is_relayed`: a subscription of another queue posts it, and no client; a delay has no effect then.
    """

    project: str
    queue: str
    is_topic: bool
    metadata: JsonObject
    messages: tuple[Body, ...]
    client_id: str
    is_relayed: bool = False

    @property
    def ref(self) -> QueueRef:
        """Raises ValidationFailed: no queue can have the name."""
        return (topic_ref if self.is_topic else queue_ref)(self.project, self.queue)


class Filter(ABC):
    """One filter. Each process makes one, and uses it in its event loop for many posts at once."""

    def begin(self, settings: Settings) -> None:
        """Read its own settings; called once, before the first post.

        Raises:
            StartRefused: One is missing or wrong.
        """
        return

    async def diagnose(self, settings: Settings) -> Sequence[Finding]:
        """Findings of `doctor` about it. Bounded in time, changes nothing, shows no secret."""
        return ()

    @abstractmethod
    async def filter(self, posting: Posting) -> Posting:
        """The post as it goes on: the same one, or a copy (`msgspec.structs.replace`) with other messages, as many
        and in the same order, or with another `queue` of the project.

        It never blocks the event loop, and may be asked again for a post that a client repeats.

        Raises:
            PostRefused: The client gets 400 with this sentence, and nothing is stored.
            PostNotPermitted: As that, with 403.
        """


class Passed(msgspec.Struct, frozen=True):
    """A post after all filters. `must_encrypt`: its messages may be stored encrypted only."""

    ref: QueueRef
    messages: tuple[Body, ...]
    must_encrypt: bool = False


class Filters:
    """The filters of a process, by name, in the order of the settings."""

    def __init__(
        self,
        filters: Mapping[str, Filter],
        metadata_of: Callable[[QueueRef], Awaitable[JsonObject]],
        counts: Counter[tuple[str, str]],
    ) -> None:
        """`counts` counts posts by filter and result."""
        self._filters = filters
        self._metadata_of = metadata_of
        self._counts = counts
        counts.update({(name, result): 0 for name in filters for result in RESULTS})

    async def passed(
        self,
        ref: QueueRef,
        messages: tuple[Body, ...],
        *,
        client_id: str,
        request_id: str,
        permits: Permits,
        is_relayed: bool = False,
    ) -> Passed:
        """The post as the filters leave it.

        Raises:
            ValidationFailed, NotPermitted: A filter refuses it, or routes it to where the caller may not post.
            FilterFailed: A filter raised another error, took too long, or made something else than a post of it.
            StorageUnavailable: The queue's metadata could not be read.
        """
        posting = Posting(
            ref.project,
            ref.public_name,
            ref.is_topic,
            await self._metadata_of(ref),
            messages,
            client_id,
            is_relayed,
        )
        must_encrypt = bool(posting.metadata.get(ENCRYPT))
        for name, one in self._filters.items():
            posting = await self._filtered(name, one, posting, permits, request_id)
        return Passed(posting.ref, posting.messages, must_encrypt and posting.ref != ref)

    async def _filtered(
        self, name: str, one: Filter, posting: Posting, permits: Permits, request_id: str
    ) -> Posting:
        facts = {"filter": name, "project": posting.project, "queue": posting.queue}
        try:
            async with asyncio.timeout(MOST_SECONDS):
                made = await one.filter(posting)
            _check(made, posting)
        except (ValidationFailed, NotPermitted):
            self._counts[name, "refused"] += 1
            raise
        except Exception as error:
            self._counts[name, "failed"] += 1
            logger.exception(
                "A message filter failed, and its post is not stored",
                extra={"action": "filter_failed", **facts, "request_id": request_id},
            )
            raise FilterFailed(name) from error
        if made.queue != posting.queue:
            self._counts[name, "routed"] += 1
            permits(made.ref)
            return msgspec.structs.replace(made, metadata=await self._metadata_of(made.ref))
        if made is not posting:
            self._counts[name, "changed"] += 1
        return msgspec.structs.replace(made, metadata=posting.metadata)


class _Fault(Exception):
    """A filter made something else of a post than a post."""


def _check(made: object, given: Posting) -> None:
    """Refuse what no filter may make of a post."""
    if not isinstance(made, Posting):
        raise _Fault(f"It returned {type(made).__name__}, not a Posting")
    if (made.project, made.is_topic) != (given.project, given.is_topic):
        raise _Fault("It routed the post to another project, or from a topic to a queue")
    if len(made.messages) != len(given.messages):
        raise _Fault(f"It made {len(made.messages)} messages of {len(given.messages)}")
    try:
        made.ref  # noqa: B018 - raises
        for body, former in zip(made.messages, given.messages, strict=True):
            if not (isinstance(body, Body) and _is_time(body.ttl) and _is_time(body.delay)):
                raise _Fault(
                    "It made something else of a message than a Body with numbers of seconds"
                )
            if body.text is not former.text:
                check_json_text(body.text)
                check_depth_of_text(body.text)
                orjson.loads(body.text)
            if body.attributes is not former.attributes and not _is_canonical(body.attributes):
                raise _Fault("It made attributes that are not as the service writes them")
    except (ValidationFailed, orjson.JSONDecodeError) as error:
        raise _Fault(str(error)) from error


def _is_canonical(attributes: bytes | None) -> bool:
    return attributes is None or canonical(attributes) == attributes


def _is_time(seconds: object) -> bool:
    return seconds is None or type(seconds) is int


def load_filters(settings: Settings) -> dict[str, Filter]:
    """The filters that the settings name, in their order.

    Raises:
        StartRefused: There is none of a name, or it can't be loaded or used.
    """
    found = {}
    for name in settings.filters:
        named = list(entry_points(group=ENTRY_POINTS, name=name))
        if not named:
            raise StartRefused(_unknown(name))
        found[name] = load(named[0], Filter)  # type: ignore[type-abstract]
        found[name].begin(settings)
    return found


def _unknown(name: str) -> str:
    known = sorted({each.name for each in entry_points(group=ENTRY_POINTS)})
    there = f"installed are {', '.join(known)}" if known else "none is installed"
    return f"ZAQAR_FILTERS names {name!r}, and there is no such filter: {there}; install its package, or take it out"
