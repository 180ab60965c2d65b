"""Messages as version 1 shows them, and where an answer is from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from api.answers import Answer
from api.requests import Call
from api.zaqar.shapes import age, message_href
from zaqar_notify.models import Message


def message(queue_href: str, message: Message, now: datetime, claim_id: str | None = None) -> bytes:
    """`{"href", "ttl", "age", "body"}`; the href has the claim's id only under the claim."""
    href = message_href(queue_href, message.id, claim_id).encode()
    return b'{"href":"%b","ttl":%d,"age":%d,"body":%b}' % (
        href,
        message.ttl,
        age(message.posted_at, now),
        message.body,
    )


def messages(
    queue_href: str, found: Iterable[Message], now: datetime, claim_id: str | None = None
) -> bytes:
    """A bare array."""
    return b"[%b]" % b",".join([message(queue_href, one, now, claim_id) for one in found])


def located(answer: Answer, call: Call) -> Answer:
    """The answer with the header `Content-Location`, which repeats the request's path and query."""
    href = call.href.encode("ascii")
    if call.query_string:
        href += b"?" + call.query_string
    return replace(answer, headers=(*answer.headers, (b"Content-Location", href)))
