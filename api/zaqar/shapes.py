"""Models as JSON on the wire. Messages are joined as bytes, so their bodies stay unchanged."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, TypeAlias

from zaqar_notify.clock import Clock
from zaqar_notify.models import Message


class More(NamedTuple):
    """The fields beyond Zaqar's that a client asks for: `attributes`, and `not_before` of messages that are not due.
    That one needs the clock by whose host clients know the time."""

    attributes: bool = False
    due_by: Clock | None = None


NOTHING_MORE = More()


def message(
    queue_href: str, message: Message, now: datetime, *, more: More = NOTHING_MORE
) -> bytes:
    """`{"id", "href", "ttl", "age", "body", "checksum"?}`; the contract allows no other key unasked."""
    return b"".join(_message_pieces(queue_href, message, now, more))


def messages(
    queue_href: str,
    found: Iterable[Message],
    now: datetime,
    *,
    before: bytes = b"{",
    after: bytes = b"}",
    more: More = NOTHING_MORE,
) -> bytes:
    """`{"messages": […]}`, or with other fields before and after."""
    pieces = [_message_pieces(queue_href, one, now, more) for one in found]
    return _document(pieces, before, after)


def popped(found: Iterable[Message], now: datetime, *, more: More = NOTHING_MORE) -> bytes:
    """Messages that were removed: without `href`, with the claim data of their consumers."""
    return _document([_popped_pieces(one, now, more) for one in found], b"{", b"}")


Pieces: TypeAlias = tuple[bytes, bytes, bytes]
"""Pieces of a message's JSON; the second is the body. They are joined once, because each copy of a
page of 5 MB takes 2 ms."""


def _message_pieces(queue_href: str, message: Message, now: datetime, more: More) -> Pieces:
    href = message_href(queue_href, message.id, message.claim_id)
    seconds = age(message.posted_at, now)
    head = f'{{"id":"{message.id}","href":"{href}","ttl":{message.ttl},"age":{seconds},"body":'
    return head.encode(), message.body, end_of(message, now, more)


def _popped_pieces(message: Message, now: datetime, more: More) -> Pieces:
    head = b'{"id":"%b","ttl":%d,"age":%d,"body":' % (
        message.id.encode(),
        message.ttl,
        age(message.posted_at, now),
    )
    claims = b',"claim_id":null,"claim_count":%d' % message.claim_count
    return head, message.body, claims + end_of(message, now, more)


def _document(found: Iterable[Pieces], before: bytes, after: bytes) -> bytes:
    document = [before, b'"messages":[']
    for pieces in found:
        document += pieces
        document.append(b",")
    if len(document) > 2:
        document.pop()  # The last comma.
    document += (b"]", after)
    return b"".join(document)


def message_href(queue_href: str, message_id: str, claim_id: str | None = None) -> str:
    """A link to the message; the link of a claimed message ends in its claim's id."""
    if claim_id is None:
        return f"{queue_href}/messages/{message_id}"
    return f"{queue_href}/messages/{message_id}?claim_id={claim_id}"


def instant(moment: datetime) -> str:
    """UTC to the second, with its zone: `2026-11-20T19:17:57Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _exact(moment: datetime) -> str:
    """As `instant`, with milliseconds."""
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond // 1000:03}Z"


def age(since: datetime, now: datetime) -> int:
    """Whole seconds; never negative, although two servers' clocks may differ."""
    return max(0, int((now - since).total_seconds()))


def end_of(message: Message, now: datetime, more: More) -> bytes:
    """The end of a message's JSON: the fields that not every message shows."""
    end = b"}" if message.checksum is None else b',"checksum":"%b"}' % message.checksum.encode()
    if more is NOTHING_MORE:
        return end
    if more.attributes:
        end = b',"attributes":%b%b' % (message.attributes or b"{}", end)
    if more.due_by is not None and message.posted_at > now:
        due_at = _exact(more.due_by.on_host(message.posted_at))
        end = b',"not_before":"%b"%b' % (due_at.encode(), end)
    return end
