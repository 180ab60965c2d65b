"""Sends an answer as ASGI messages."""

from __future__ import annotations

from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Send

from api.answers import Answer, Parts, warning
from api.requests import Call


async def send_answer(answer: Answer, call: Call, receive: Receive, send: Send) -> None:
    """Send the answer. A body in parts is sent until the client hangs up."""
    body = answer.body
    headers = [*answer.headers]
    if call.warnings:
        headers += [(b"Warning", warning(sentence)) for sentence in call.warnings]
    if body:
        headers.append((b"Content-Type", answer.content_type))
    if not isinstance(body, bytes):
        async with aclosing(body):
            if call.method != "HEAD":
                await _send_parts(body, answer.status, headers, receive, send)
                return
        body = b""
    elif body or answer.status != 204:
        headers.append((b"Content-Length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": b"" if call.method == "HEAD" else body})


async def _send_parts(
    parts: Parts,
    status: int,
    headers: list[tuple[bytes, bytes]],
    receive: Receive,
    send: Send,
) -> None:
    response = StreamingResponse(parts, int(status))
    response.raw_headers = headers
    await response({"type": "http"}, receive, send)
