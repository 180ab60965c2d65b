"""A request and its answer, as every route and every middleware of the application sees them.

The application makes an `Exchange` for each request and passes it on as `request.state.exchange`.
The answer goes out through the exchange, which adds the request id and counts the answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter

from starlette.types import Message, Scope, Send

from zaqar_notify.metrics import OTHER, Requests

REQUEST_ID = b"X-OpenStack-Request-Id"
CLOSE = (b"Connection", b"close")

DISCARDED_BODY_BYTES = 1 << 20
"""A refused body up to this size is read and dropped, so that its sender reads the refusal."""

_GLOBAL_REQUEST_ID = re.compile(rb"req-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

logger = logging.getLogger(__name__)


class Exchange:
    """One request on its way through the application, and back.

    `route` is the path template under which the exchange is counted. `is_timed`: its duration is
    measured; a long poll's is not. `counted_as`: the status in the metrics, if it is another than
    the answer's. `is_cut_short`: the body failed, and no middleware may end it as if it were
    complete. `must_close`: the connection ends with the answer; None: the body was not looked at,
    and the headers decide. `on_answer` is given the status before the answer is sent.
    """

    route = OTHER
    is_timed = False
    counted_as: int | None = None
    is_cut_short = False
    must_close: bool | None = None
    on_answer: Callable[[Exchange, int], None] | None = None

    def __init__(self, scope: Scope, send: Send, request_id: bytes, requests: Requests) -> None:
        self._began = perf_counter()
        # The scope refers to this object: keeping the scope would make a cycle of the two.
        self._method: str = scope["method"]
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._send = send
        self._requests = requests
        self.request_id = request_id

    def send(self, message: Message) -> Awaitable[None]:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.note(message["status"])
            headers = [*message.get("headers", ()), (REQUEST_ID, self.request_id)]
            if self.must_close or (self.must_close is None and leaves_much_unread(self._headers)):
                headers.append(CLOSE)
            message["headers"] = headers
        return _send_nothing() if self.is_cut_short else self._send(message)

    def note(self, status: int) -> None:
        """Count the answer before it is sent: a client that has read it finds it counted."""
        took = perf_counter() - self._began
        seconds = took if self.is_timed else None
        self._requests.note(self.route, self._method, self.counted_as or status, seconds)
        if self.on_answer is not None:
            self.on_answer(self, status)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "request",
                extra={
                    "action": "request",
                    **self.facts(),
                    "method": self._method,
                    "route": self.route,
                    "status": int(status),
                    "milliseconds": round(took * 1000, 3),
                },
            )

    def facts(self) -> dict[str, object]:
        """The fields of every log record about the request; a client's id only if well-formed."""
        facts: dict[str, object] = {"request_id": self.request_id.decode("ascii")}
        given = dict(self._headers).get(b"x-openstack-request-id")
        if given is not None and _GLOBAL_REQUEST_ID.fullmatch(given):
            facts["global_request_id"] = given.decode("ascii")
        return facts


async def _send_nothing() -> None:
    pass


def exchange_of(scope: Scope) -> Exchange:
    exchange: Exchange = scope["state"]["exchange"]
    return exchange


def leaves_much_unread(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an unread body is so long that a new connection costs less than reading it.

    After `Expect`, the body may never follow.
    """
    for name, value in headers:
        if name in (b"transfer-encoding", b"expect"):
            return True
        if name == b"content-length" and int(value) > DISCARDED_BODY_BYTES:
            return True
    return False
