"""Models as JSON on the wire. Messages are joined as bytes, so their bodies stay unchanged."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

from zaqar_notify.clock import Clock
from zaqar_notify.models import Message


def message(
    queue_href: str, message: Message, now: datetime, *, due_by: Clock | None = None
) -> bytes:
    """`{"id", "href", "ttl", "age", "body", "checksum"?}`; the contract allows no other key.

    Args:
        due_by: The clock by whose host a client wants to know when a message is due that is posted for later: it gets
            the key `not_before`.
    """
    return b"".join(_message_pieces(queue_href, message, now, due_by))


def messages(
    queue_href: str,
    found: Iterable[Message],
    now: datetime,
    *,
    before: bytes = b"{",
    after: bytes = b"}",
    due_by: Clock | None = None,
) -> bytes:
    """`{"messages": […]}`, or with other fields before and after; `due_by` as in `message`."""
    pieces = [_message_pieces(queue_href, one, now, due_by) for one in found]
    return _document(pieces, before, after)


def popped(found: Iterable[Message], now: datetime) -> bytes:
    """Messages that were removed: without `href`, with the claim data of their consumers."""
    return _document([_popped_pieces(one, now) for one in found], b"{", b"}")


Pieces: TypeAlias = tuple[bytes, bytes, bytes]
"""Pieces of a message's JSON; the second is the body. They are joined once, because each copy of a
page of 5 MB takes 2 ms."""


def _message_pieces(
    queue_href: str, message: Message, now: datetime, due_by: Clock | None
) -> Pieces:
    href = message_href(queue_href, message.id, message.claim_id)
    seconds = age(message.posted_at, now)
    head = f'{{"id":"{message.id}","href":"{href}","ttl":{message.ttl},"age":{seconds},"body":'
    tail = _checksum(message)
    if due_by is not None and message.posted_at > now:
        tail += b',"not_before":"%b"' % _exact(due_by.on_host(message.posted_at)).encode()
    return head.encode(), message.body, tail + b"}"


def _popped_pieces(message: Message, now: datetime) -> Pieces:
    head = b'{"id":"%b","ttl":%d,"age":%d,"body":' % (
        message.id.encode(),
        message.ttl,
        age(message.posted_at, now),
    )
    tail = b',"claim_id":null,"claim_count":%d%b}' % (message.claim_count, _checksum(message))
    return head, message.body, tail


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


def _checksum(message: Message) -> bytes:
    return b"" if message.checksum is None else b',"checksum":"%b"' % message.checksum.encode()
