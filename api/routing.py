"""From an ASGI request to a handler and back, in few steps: this is where each request's time goes.

Resources are found by a walk over the path's words, checked in the contract's order, and answered
with two ASGI messages; what no resource answers goes on to FastAPI, which has the documentation.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from math import inf
from time import perf_counter
from typing import TypeAlias
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.answers import Answer, warning
from api.errors import refusal
from api.gate import Gate
from api.requests import Call, CallerGone, MethodNotAllowed, NotAcceptable, request_ids
from api.resources import Resource
from api.surfaces import Surface
from api.turns import LARGE_BYTES, READ, Turns
from zaqar_notify.auth import Policy
from zaqar_notify.errors import NotifyError, ServiceStopping, StorageUnavailable
from zaqar_notify.metrics import CALLER_GONE, METHODS, OTHER
from zaqar_notify.service import Service

REQUEST_ID = b"X-OpenStack-Request-Id"
CLOSE = (b"Connection", b"close")

_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
LOG_PAUSE_SECONDS = 1.0
"""Between records of a store that fails: with a full disk each write is one more."""

_GLOBAL_REQUEST_ID = re.compile(r"req-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

logger = logging.getLogger(__name__)


Found: TypeAlias = tuple[Surface, Resource, dict[str, str]]


class Branch:
    """The words that can follow in a path; `parameter` takes any word."""

    __slots__ = ("found", "parameter", "words")

    def __init__(self) -> None:
        self.words: dict[str, Branch] = {}
        self.parameter: tuple[str, Branch] | None = None
        self.found: tuple[Surface, Resource] | None = None

    def grow(self, surface: Surface, resource: Resource) -> None:
        branch = self
        for word in resource.path.split("/")[1:]:
            branch = branch._following(word)
        branch.found = (surface, resource)

    def find(self, words: Iterable[str]) -> Found | None:
        """The resource of a path's words and its surface, with the path's parameters."""
        branch = self
        names: dict[str, str] = {}
        for word in words:
            following = branch.words.get(word)
            if following is None:
                if branch.parameter is None:
                    return None
                name, following = branch.parameter
                # An empty queue name is a bad name; any other empty word is another path.
                if not word and name != "queue_name":
                    return None
                names[name] = word
            branch = following
        return None if branch.found is None else (*branch.found, names)

    def _following(self, word: str) -> Branch:
        if not word.startswith("{"):
            return self.words.setdefault(word, Branch())
        if self.parameter is None:
            self.parameter = (word[1:-1], Branch())
        return self.parameter[1]


class Routing:
    """The ASGI application: the resources of `surfaces` before `otherwise`."""

    def __init__(
        self, service: Service, surfaces: Iterable[Surface], policy: Policy, otherwise: ASGIApp
    ) -> None:
        self._turns = Turns(most_buffered_bytes=service.settings.max_buffered_bytes)
        self._gate = Gate(service, policy, self._turns)
        self._otherwise = otherwise
        self._prefix = prefix = service.settings.public_path
        self._prefixes = re.compile(rf"(?:{re.escape(prefix)})+(?=/|$)")
        self._versions = re.compile(rf"/v2{re.escape(prefix)}(?=/v2/)")
        self._request_ids = request_ids()
        self._requests = service.metrics.requests
        self._unavailable_logged_at = -inf
        self._is_store_away = False
        self._root = Branch()
        self._requests.expect(OTHER, METHODS)
        for surface in surfaces:
            for resource in surface.resources:
                self._root.grow(surface, resource)
                self._requests.expect(resource.path, resource.by_method)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._otherwise(scope, receive, send)
            return
        began = perf_counter()
        call = Call(scope, receive, next(self._request_ids), self._prefix)
        found = self._root.find(_words(scope))
        if found is None and self._prefix:
            scope, found = self._find_below_prefix(scope)
            call.path = scope["path"]
        if found is None:
            await self._pass_on(scope, receive, send, call)
            return
        surface, resource, call.names = found
        try:
            answer = await self._gate.answer(surface, resource, call)
            if self._is_store_away and call.method in _WRITING:
                self._log_available(call)
        except CallerGone:
            self._requests.note(resource.path, call.method, CALLER_GONE, None)
            return
        except asyncio.CancelledError:  # The server stops, and waits for this request no longer.
            answer = surface.errors(ServiceStopping(), call)
        except Exception as error:  # The outermost place: what nobody foresaw is logged once.
            self._log_failure(error, call)
            answer = surface.errors(error, call)
        took = perf_counter() - began
        # Before the answer is sent: whoever has read it finds it counted.
        self._requests.note(
            resource.path, call.method, answer.status, None if call.is_waiting else took
        )
        if logger.isEnabledFor(logging.DEBUG):
            _log_request(resource, call, answer, took)
        await _send(answer, call, send)
        read = scope.get(READ)
        if read is not None and len(answer.body) > LARGE_BYTES and not resource.is_open:
            await self._turns.of(call.project).unread(len(answer.body), read)

    def _log_failure(self, error: Exception, call: Call) -> None:
        if isinstance(error, StorageUnavailable):
            self._log_unavailable(error, call)
        elif not isinstance(error, NotifyError | NotAcceptable | MethodNotAllowed):
            logger.error("request failed", exc_info=error, extra=_facts("request_failed", call))

    def _log_unavailable(self, error: StorageUnavailable, call: Call) -> None:
        """Say why the store fails: its clients are not told."""
        now = perf_counter()
        if now < self._unavailable_logged_at + LOG_PAUSE_SECONDS:
            return
        self._unavailable_logged_at = now
        self._is_store_away = True
        logger.warning(
            "The store is unavailable",
            extra=_facts("storage_unavailable", call) | {"error": str(error)},
        )

    def _log_available(self, call: Call) -> None:
        self._is_store_away = False
        logger.warning("The store answers again", extra=_facts("storage_available", call))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        """What is none of our resources."""
        fault = self._gate.fault(call)
        if fault is not None:
            answer = refusal(fault, method=call.method, href=call.href)
            self._requests.note(OTHER, call.method, answer.status, None)
            await _send(answer, call, send)
            return

        async def send_with_request_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (REQUEST_ID, call.request_id)]
                if call.must_close:
                    headers.append(CLOSE)
                message["headers"] = headers
                self._requests.note(OTHER, call.method, message["status"], None)
            await send(message)

        await self._otherwise(scope, receive, send_with_request_id)

    def _find_below_prefix(self, scope: Scope) -> tuple[Scope, Found | None]:
        """The resource of a path with the public URL's before it, and the scope without that.

        Proxies take it away, or leave it. Clients that put our links behind their endpoint repeat it,
        and python-zaqarclient puts them behind the version, too.
        """
        found = None
        for before in (self._prefixes, self._versions):
            path = scope["path"]
            raw = (scope.get("raw_path") or b"").decode("ascii")
            if match := before.match(path):
                raw = raw[match.end() :] if raw.startswith(match[0]) else ""
                scope = {**scope, "path": path[match.end() :] or "/", "raw_path": raw.encode()}
                found = self._root.find(_words(scope))
            if found is not None:
                break
        return scope, found


def _words(scope: Scope) -> list[str]:
    """The decoded words of a path. An encoded slash belongs to its word: it leads to no other route."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%2F" in raw or b"%2f" in raw:
        return [unquote(word) for word in raw.decode("ascii").split("/")[1:]]
    path: str = scope["path"]
    return path.split("/")[1:]


async def _send(answer: Answer, call: Call, send: Send) -> None:
    headers = [(REQUEST_ID, call.request_id)]
    body = answer.body
    if body:
        headers.append((b"Content-Type", answer.content_type))
        headers.append((b"Content-Length", b"%d" % len(body)))
    elif answer.status != 204:
        headers.append((b"Content-Length", b"0"))
    headers += answer.headers
    for sentence in call.warnings:
        headers.append((b"Warning", warning(sentence)))
    if call.must_close:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send(
        {"type": "http.response.body", "body": b"" if call.method == "HEAD" else answer.body}
    )


def _log_request(resource: Resource, call: Call, answer: Answer, took: float) -> None:
    logger.debug(
        "request",
        extra=_facts("request", call)
        | {
            "method": call.method,
            "route": resource.path,
            "status": int(answer.status),
            "milliseconds": round(took * 1000, 3),
        },
    )


def _facts(action: str, call: Call) -> dict[str, object]:
    """What a record about a request begins with; its caller's own id for it only if well-formed."""
    facts: dict[str, object] = {"action": action, "request_id": call.request_id.decode("ascii")}
    given = call.header(b"x-openstack-request-id")
    if given is not None and _GLOBAL_REQUEST_ID.fullmatch(given):
        facts["global_request_id"] = given
    return facts
