"""A queue as a stream of events: its messages as they come, until the client hangs up.

The stream is made of the pages and the watch of long polls. An error before the first page is an ordinary answer.
Later errors that pass, such as an outage of the store, are waited for. Others end the stream with an event `end`.

Source: HTML, "Server-sent events".
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from http import HTTPStatus

import msgspec

from api.answers import Answer
from api.errors import answer_to
from api.refusals import ParameterInvalid
from api.requests import Call
from api.resources import Lasting, Operation, Parameter
from api.turns import LARGE_BYTES, Metered
from api.zaqar.attributes import asked_of
from api.zaqar.examples import MESSAGE_ID
from api.zaqar.examples import message as message_example
from api.zaqar.links import queue_href
from api.zaqar.query import Query
from api.zaqar.shapes import message
from zaqar_notify import messages as service_messages
from zaqar_notify.errors import NotifyError, QueueDoesNotExist
from zaqar_notify.service import Service
from zaqar_notify.storage.base import Watch
from zaqar_notify.storage.ids import markers_of, to_position

QUIET_SECONDS = 15.0
"""After so long without a message a comment is sent. Proxies end a connection that is silent for a minute, and the end
of a client that has vanished is noticed by what is sent to it."""

CHECKED_SECONDS = 1.0
"""A stream sends nothing more than this after its caller has lost the right to read the queue."""

RETRY_MS = (1000, 3000)
"""When a browser comes back after an end. Streams that end together come back one after the other."""

HEADERS = ((b"Cache-Control", b"no-store"), (b"X-Accel-Buffering", b"no"))
"""The second one keeps nginx from holding events back."""

LARGE_PART_BYTES = 16 << 10

_QUIET = b":\n\n"
_WAITING = b": waits until the service can go on\n\n"
_LINE_END = re.compile(rb"\r\n|\r|\n")


_CREDENTIALS = (
    Parameter(
        "client_id",
        "In the place of the header `Client-ID`.",
        str,
        "3381af92-2b9e-11e3-b191-71861300734c",
    ),
    Parameter("project_id", "In the place of `X-Project-ID`.", str, "p1"),
    Parameter("url_signature", "In the place of `URL-Signature`.", str, "9f2c…"),
    Parameter("url_expires", "In the place of `URL-Expires`.", str, "2030-01-31T12:00:00"),
    Parameter("url_methods", "In the place of `URL-Methods`.", str, "GET"),
    Parameter("url_paths", "In the place of `URL-Paths`.", str, "/v2/queues/demo/messages"),
)
_LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    "For a stream: begin after this event, whatever `marker` says.",
    str,
    MESSAGE_ID,
)


def with_events(listing: Operation) -> Operation:
    """The operation that lists a queue's messages, and follows the queue for clients that accept events."""
    page = listing.replies[HTTPStatus.OK]
    example = msgspec.json.encode(message_example("/v2"))
    events = f"retry: 2000\n\nid: {MESSAGE_ID}\ndata: {example.decode()}\n\n"
    return replace(
        listing,
        replies={HTTPStatus.OK: replace(page, events=events)},
        description=f"{listing.description} With `Accept: text/event-stream` the answer is a stream of the messages that "
        "are there and of those that come: an event for each, whose `id` is a marker. A page can set no headers for it, so "
        "its query takes `client_id`, `project_id` and `url_…`; other requests do not.",
        query=(*listing.query, *_CREDENTIALS),
        headers=(*listing.headers, _LAST_EVENT_ID),
        events=follow,
    )


async def follow(service: Service, call: Call, lasting: Lasting) -> Answer:
    """The messages of a queue as they come."""
    stream = _Stream(service, call, lasting, Query(call.query_string))
    parts = stream.parts()
    return Answer(
        HTTPStatus.OK, _Begun(await anext(parts), parts), HEADERS, content_type=b"text/event-stream"
    )


class _Begun(AsyncIterator[bytes]):
    """The parts of an answer of which the first is made. Closed before that is read, it closes the others."""

    def __init__(self, first: bytes, others: AsyncGenerator[bytes, None]) -> None:
        self._first: bytes | None = first
        self._others = others

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        return await anext(self._others) if first is None else first

    async def aclose(self) -> None:
        await self._others.aclose()


class _Stream:
    """One stream: the messages that it shows, and how far it has come."""

    def __init__(self, service: Service, call: Call, lasting: Lasting, query: Query) -> None:
        if query.words("ids"):
            raise ParameterInvalid("ids is for a list of messages; an event stream has none")
        self._service = service
        self._call = call
        self._lasting = lasting
        self._marker = _start(call, query)
        self._limit = query.integer("limit")
        self._without_client = None if query.boolean("echo") else call.client_id
        self._include_claimed = query.boolean("include_claimed")
        self._include_delayed = query.boolean("include_delayed")
        self._more = asked_of(service, call)
        self._queue_exists = False
        self._sent_bytes = 0
        self._checked_at = asyncio.get_running_loop().time()

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The parts of the answer. To make the first one raises the errors that refuse the stream."""
        service, call = self._service, self._call
        async with service.quotas.poll(call.project):
            with service.metrics.streaming(), service_messages.watch(service, call.ref) as watch:
                yield b"retry: %d\n\n" % random.randint(*RETRY_MS) + await self._look()  # noqa: S311 - no secret
                try:
                    while (part := await self._next(watch)) is not None:
                        yield part
                        if len(part) > LARGE_PART_BYTES:
                            part = b""
                            yield part  # The sender keeps what it sent last.
                except NotifyError as error:
                    yield b"event: end\n" + _data(answer_to(error, call).whole)

    async def _next(self, watch: Watch) -> bytes | None:
        """The next events, or a comment if there are none for long; None: the service stops."""
        await self._until_read()
        try:
            await self._check_caller()
            while not (events := await self._look()):
                asked_at = self._now()
                if await watch.changed(timeout_seconds=QUIET_SECONDS):
                    await self._check_caller()
                elif self._now() < asked_at + QUIET_SECONDS / 2:
                    return None  # Waits end early only when the store closes.
                else:
                    await self._check_queue()
                    return _QUIET
            return events
        except NotifyError as error:
            if error.retry_after_seconds is None:
                raise
            await asyncio.sleep(error.retry_after_seconds * random.uniform(1, 2))  # noqa: S311 - no secret
            return _WAITING

    async def _until_read(self) -> None:
        """Wait until the client has read nearly all, so that a slow one has one page in memory, which is counted."""
        call = self._call
        if call.read is None:
            return
        size, self._sent_bytes = self._sent_bytes, 0
        if size > LARGE_BYTES:
            await self._lasting.line.unread(size, call.read)
        await call.read()

    async def _check_caller(self) -> None:
        """Look again whether the caller may still read the queue; once a second is enough.

        Raises:
            NotifyError: Its token or signature has expired or was revoked, or the policy has changed.
        """
        if self._now() >= self._checked_at + CHECKED_SECONDS:
            self._checked_at = self._now()
            await self._lasting.check_caller()

    async def _check_queue(self) -> None:
        """Raise QueueDoesNotExist once the queue is gone that was there."""
        exists = await service_messages.has_queue(self._service, self._call.ref)
        if self._queue_exists and not exists:
            raise QueueDoesNotExist(self._call.ref.name)
        self._queue_exists = exists

    async def _look(self) -> bytes:
        """The events of the next page, made in a turn of the project; empty while there is no message."""
        turn = await self._lasting.line.begin()
        making = Metered(self._page())
        events = b""
        try:
            events = await making
        finally:
            turn.end(len(events), making.seconds)
        self._sent_bytes = len(events)
        return events

    async def _page(self) -> bytes:
        service, call = self._service, self._call
        page = await service_messages.page(
            service,
            call.ref,
            marker=self._marker,
            limit=self._limit,
            without_client=self._without_client,
            include_claimed=self._include_claimed,
            include_delayed=self._include_delayed,
        )
        if page.marker is None:
            return b""
        self._marker = page.marker
        self._queue_exists = True
        now, href = service.clock.now(), queue_href(call)
        return b"".join(
            [
                _marker(marker) + _data(message(href, one, now, more=self._more))
                for one, marker in zip(page.messages, markers_of(page), strict=True)
            ]
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _start(call: Call, query: Query) -> str | None:
    """The marker behind which the stream begins: that of the last event that the client has, or the query's.

    Raises:
        ParameterInvalid: It is no marker: a list would be empty, and a stream silent for ever.
    """
    last = call.header(b"last-event-id") or query.text("marker")
    if last is not None and to_position(last) is None:
        raise ParameterInvalid(
            "Last-Event-ID, or else marker, must be the id of an event, or the marker of a list"
        )
    return last


def _marker(marker: str | None) -> bytes:
    return b"" if marker is None else b"id: %b\n" % marker.encode("ascii")


def _data(text: bytes) -> bytes:
    """The end of an event: JSON text, each of its lines in a field of its own."""
    lines = _LINE_END.split(text) if b"\n" in text or b"\r" in text else (text,)
    return b"".join([b"data: %b\n" % line for line in lines]) + b"\n"
