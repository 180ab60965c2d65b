"""Turns the bytes of a connection into requests. Each HTTP message is one request.

Uvicorn's protocol is the base. Three things differ here.

- An offer to upgrade to another protocol than a WebSocket is declined: the request is read as if it had
  no offer. Uvicorn's parser takes the end of the head for the end of such a request. It would read the
  body as the next request.
- Bytes that are no request are answered once, after the requests before them.
- Heads, extensions of chunks, and fields after a chunked body have bounds.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 65536
"""Request line and headers. Most heads have a few hundred bytes, with 20 ids under 1,000."""

MAX_OVERHEAD_BYTES = 65536
"""Extensions of chunks, and fields after the last chunk, between two bytes of the body."""

UNREADABLE = "This is not a valid HTTP/1.1 request"

logger = logging.getLogger(__name__)


class Reading(HttpToolsProtocol):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._overhead_bytes = 0
        self._is_whole = True
        """Whether the body of the latest request has arrived; for its head see `is_in_head`."""
        self._refusal: bytes | None = None
        """The answer to unreadable bytes. It waits until the requests before them are answered."""
        self.successor: asyncio.Protocol | None = None
        """The WebSocket that has taken the connection."""

    @abstractmethod
    def takes_offer(self) -> bool:
        """Whether a WebSocket is to take the connection after the head that was read."""

    @abstractmethod
    def hand_over(self) -> asyncio.Protocol:
        """Give the connection to a WebSocket, which reads the head again, and all that follows."""

    @abstractmethod
    def is_leaving(self) -> bool:
        """Whether our side of the connection is closed, or about to be."""

    @abstractmethod
    def leave(self) -> None:
        """End the connection after the last answer."""

    @abstractmethod
    def give_up(self) -> None:
        """End the connection at once."""

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        # In pieces, so that a head is measured before much of it is parsed.
        for start in range(0, len(data), MAX_HEAD_BYTES):
            if self.successor is not None:
                self.successor.data_received(data[start:])
                return
            if self.is_leaving() or self._refusal is not None:
                return
            self._receive(data[start : start + MAX_HEAD_BYTES])

    # Called by uvicorn and its parser.

    def on_headers_complete(self) -> None:
        self.url = origin_form(self.url)
        self._is_whole = False
        super().on_headers_complete()
        # A new list, because fields after a chunked body would be trusted like headers.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_whole = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal is not None and self.is_idle():
            self._answer_unreadable(self._refusal)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no request.

        Requests before them are answered first. For a request in progress this is the only answer.
        """
        logger.info(
            "A request can't be read", extra={"action": "request_unreadable", "reason": msg}
        )
        answer = self.error(400, "Invalid API request", msg)
        if self._is_whole and not self.is_idle():
            self._refusal = answer
            self.flow.pause_reading()
        elif not self._is_whole and (self.pipeline or self.cycle.response_started):
            # Its answer has begun, or waits for earlier answers: a second one would mix in.
            self.leave()
        else:
            self._answer_unreadable(answer)

    def _should_upgrade(self) -> bool:
        """True keeps uvicorn from handling the offer, so that `_decline_upgrade` handles it."""
        return True

    # The state of the requests.

    def is_in_head(self) -> bool:
        """Whether a request has begun and its headers are not complete."""
        return self.scope is not None and "method" not in self.scope

    def is_arriving(self) -> bool:
        """Whether a request has begun and is not complete."""
        return not self._is_whole or self.is_in_head()

    def is_idle(self) -> bool:
        """Whether every request that was read is answered."""
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    def error(self, status: int, title: str, description: str, headers: bytes = b"") -> bytes:
        """An answer that ends the connection, in the contract's form."""
        body = orjson.dumps({"title": title, "description": description})
        dates = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        return (
            b"%b%b%bcontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b"
        ) % (STATUS_LINE[status], dates, headers, len(body), body)

    # Parsing.

    def _receive(self, piece: bytes) -> None:
        self._unset_keepalive_if_required()
        was_in_head = self.is_in_head()
        self._overhead_bytes += len(piece)
        self._parse(memoryview(piece))
        if self.successor is not None:
            return
        if self.is_in_head():
            self._head_bytes += len(piece) if was_in_head else 0
            if self._head_bytes > MAX_HEAD_BYTES and not self.is_leaving():
                self.send_400_response(
                    f"The request line and headers have more than {MAX_HEAD_BYTES} bytes"
                )
            return
        self._head_bytes = 0
        if self._is_whole:
            self._overhead_bytes = 0
        elif self._overhead_bytes > MAX_OVERHEAD_BYTES + len(piece):
            self.give_up()

    def _parse(self, rest: memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                if self.takes_offer():
                    self.successor = self.hand_over()
                    if rest:
                        self.successor.data_received(bytes(rest))
                    return
                if self.scope["method"] == "CONNECT":  # No request is left without the offer.
                    self.send_400_response("CONNECT is not served here")
                    return
                self._decline_upgrade()
            except httptools.HttpParserError:
                self.send_400_response(UNREADABLE)
                return

    def _decline_upgrade(self) -> None:
        """Read the head again without the offer.

        A new parser reads it, because the old one has ended. No byte of the body was read before.
        """
        scope = self.scope
        line = (scope["method"].encode(), self.url, scope["http_version"].encode())
        head = [b"%b %b HTTP/%b\r\n" % line]
        for name, value in scope["headers"]:
            if name != b"upgrade":
                head.append(b"%b: %b\r\n" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join(head) + b"\r\n")

    def _answer_unreadable(self, answer: bytes) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # Its handler can send no answer.
            self.cycle.message_event.set()
        self._is_whole = False  # More unreadable bytes may follow.
        self.transport.write(answer)
        self.leave()


def origin_form(target: bytes) -> bytes:
    """The path and query of a request target, with one slash at the start.

    A client that joins an endpoint with a slash at its end and a path sends two slashes.
    """
    if target == b"*":
        return b"/"
    if target[:1] != b"/":
        parts = httptools.parse_url(target)  # Raises without an authority: "host:80", "path".
        target = parts.path or b"/"
        if parts.query is not None:
            target += b"?" + parts.query
    return b"/" + target.lstrip(b"/") if target[:2] == b"//" else target
