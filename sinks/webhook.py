"""Deliveries over HTTP: one `POST` per message, signed as Standard Webhooks says.

The payload is Zaqar's, to the byte; further facts travel in headers. Redirects are not followed,
since the target of one could be anything.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from weakref import WeakSet

import aiohttp
import msgspec
from multidict import CIMultiDict, istr
from yarl import URL

from sinks import text
from sinks.base import Sink
from sinks.guard import AddressForbidden, AddressGuard, GuardedResolver
from zaqar_notify import __version__
from zaqar_notify.models import Delivery, Document, Outcome, Verdict
from zaqar_notify.settings import Settings
from zaqar_notify.signing import sign_webhook
from zaqar_notify.subscribers import MAX_POST_HEADERS_CHARACTERS

MESSAGE_PLACEHOLDER = b'"$zaqar_message$"'
"""What `post_data` has where the payload goes; the quotes belong to it."""

# Names whose case is folded once; doing it for each request is a twentieth of a delivery's CPU.
_ID = istr("webhook-id")
_TIMESTAMP = istr("webhook-timestamp")
_SIGNATURE = istr("webhook-signature")
_MESSAGE_ID = istr("Zaqar-Message-Id")
_SUBSCRIPTION_ID = istr("Zaqar-Subscription-Id")
_QUEUE = istr("Zaqar-Queue")
_ATTEMPT = istr("Zaqar-Attempt")
_HOPS = istr("Zaqar-Hops")

_OWN_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"zaqar-notify/{__version__}",
}
# What `post_headers` may not set: what frames or routes the request, and what we vouch for.
_KEPT_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        _ID.lower(),
        _TIMESTAMP.lower(),
        _SIGNATURE.lower(),
        _MESSAGE_ID.lower(),
        _SUBSCRIPTION_ID.lower(),
        _QUEUE.lower(),
        _ATTEMPT.lower(),
        _HOPS.lower(),
    }
)
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_POST_DATA_GROWTH = 4
"""A body made by `post_data` may be this many times the largest body of a post: a template that
repeats the placeholder could make gigabytes."""

_ANSWER_BYTES = 1024
_ANSWER_SECONDS = 1.0
"""How much of an answer's body is read, and for how long: enough for the excerpt in a detail, and
for a short body to end so that its connection can be kept."""

_LONGEST_RETRY_AFTER_SECONDS = 86400
_KEEP_ALIVE_SECONDS = 15.0
_KEPT_PER_TRY = 2
"""Connections are kept while fewer are open than this many for each try that may be under way: with
many receivers, idle connections would use up the process's files."""

_LATER_STATUSES = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)


class WebhookSink(Sink):
    """Posts to `http:` and `https:` subscribers over pooled connections.

    Args:
        tls: Which certificates to trust; True: the system's.
    """

    schemes = ("http", "https")

    def __init__(
        self, settings: Settings, guard: AddressGuard, *, tls: ssl.SSLContext | bool = True
    ) -> None:
        self._guard = guard
        self._tls = tls
        self._connect_seconds = settings.delivery_connect_timeout_seconds
        self._total_seconds = settings.delivery_timeout_seconds
        self._most_tries = settings.delivery_concurrency
        self._most_connections = _KEPT_PER_TRY * settings.delivery_concurrency
        self._most_body_bytes = _POST_DATA_GROWTH * settings.max_messages_post_size
        self._clients: _Clients | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()

    async def deliver(self, delivery: Delivery) -> Outcome:
        try:
            endpoint = _endpoint_of(delivery)
            body = self._body(delivery)
        except _Unusable as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        headers = endpoint.headers.copy()
        headers.extend(_facts(delivery, body))
        try:
            async with self._client().post(
                endpoint.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return await self._outcome(response, delivery.sent_at)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            # A RuntimeError is uvloop's about a socket that closed meanwhile.
            return self._failure(error)

    async def close(self) -> None:
        clients, self._clients = self._clients, None
        if clients:
            await clients.keeping.close()
            await clients.closing.close()
            await clients.resolver.close()

    def _client(self) -> aiohttp.ClientSession:
        clients = self._clients
        if clients is None:
            clients = self._clients = self._open()
        if len(self._sockets) < self._most_connections:
            return clients.keeping
        return clients.closing

    def _open(self) -> _Clients:
        """Open the clients within the running loop."""
        resolver = GuardedResolver(self._guard, lookups=self._most_tries)
        return _Clients(
            resolver=resolver,
            keeping=self._session(resolver, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            closing=self._session(resolver, keepalive_timeout=None),
        )

    def _session(
        self, resolver: GuardedResolver, *, keepalive_timeout: float | None
    ) -> aiohttp.ClientSession:
        """A client; without `keepalive_timeout` (seconds) it uses each connection once."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                ssl=self._tls,
                resolver=resolver,
                socket_factory=self._socket,
                force_close=keepalive_timeout is None,
                keepalive_timeout=keepalive_timeout,
            ),
            timeout=aiohttp.ClientTimeout(total=self._total_seconds, connect=self._connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        opened = self._guard.socket(info)
        self._sockets.add(opened)
        return opened

    def _body(self, delivery: Delivery) -> bytes:
        template = delivery.subscription.options.get("post_data")
        if not isinstance(template, str) or not template:
            return delivery.payload
        body = template.encode(errors="replace")
        growth = len(delivery.payload) - len(MESSAGE_PLACEHOLDER)
        size = len(body) + body.count(MESSAGE_PLACEHOLDER) * growth
        if size > self._most_body_bytes:
            raise _Unusable(
                f"post_data makes a body of {size} bytes; the limit is {self._most_body_bytes}"
            )
        return body.replace(MESSAGE_PLACEHOLDER, delivery.payload)

    async def _outcome(self, response: aiohttp.ClientResponse, sent_at: datetime) -> Outcome:
        verdict = judge(response.status)
        if verdict is Verdict.DELIVERED:
            if not response.content.is_eof():
                await _start_of(response)
            return Outcome(verdict, response.status)
        detail = _detail(response, await _start_of(response))
        wait = _retry_after(response, sent_at) if verdict is Verdict.TRY_LATER else None
        return Outcome(verdict, response.status, detail, wait)

    def _failure(self, error: aiohttp.ClientError | OSError | RuntimeError) -> Outcome:
        """What a try without an answer came to. Errors' own texts may hold credentials."""
        match error:
            case aiohttp.ClientConnectorError(os_error=AddressForbidden() as forbidden):
                return Outcome(Verdict.REFUSED, detail=str(forbidden))
            case aiohttp.InvalidURL():
                return Outcome(Verdict.REFUSED, detail="the subscriber's URL can't be called")
            case aiohttp.ConnectionTimeoutError():
                detail = f"no connection within {self._connect_seconds:g} s"
            case TimeoutError():
                detail = f"no answer within {self._total_seconds:g} s"
            case aiohttp.ClientConnectorDNSError():
                detail = f"the name {error.host[:100]} was not found"
            case aiohttp.ClientConnectorCertificateError():
                detail = f"TLS: {error.certificate_error}"
            case aiohttp.ClientConnectorError():
                detail = f"no connection: {_reason(error.os_error)}"
            case aiohttp.ServerDisconnectedError():
                detail = "the connection was closed without an answer"
            case aiohttp.ClientResponseError():
                detail = "the answer is not HTTP"
            case OSError():
                detail = f"connection lost: {_reason(error)}"
            case _:
                detail = f"connection lost: {type(error).__name__}"
        return Outcome(Verdict.TRY_LATER, detail=text.detail(detail))


def judge(status: int) -> Verdict:
    """What an HTTP status means for a delivery."""
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status == HTTPStatus.GONE:
        return Verdict.GONE
    if 400 <= status < 500 and status not in _LATER_STATUSES:
        return Verdict.REFUSED
    return Verdict.TRY_LATER


class _Unusable(ValueError):
    """The subscription can't be served; the sentence says why."""


class _Clients(msgspec.Struct, frozen=True):
    """What keeps connections for the next delivery, and what closes them when there are many."""

    resolver: GuardedResolver
    keeping: aiohttp.ClientSession
    closing: aiohttp.ClientSession


class _Endpoint(msgspec.Struct, frozen=True):
    """What all deliveries to one subscriber have in common. `url` is without credentials."""

    url: URL
    headers: CIMultiDict[str]


def _endpoint_of(delivery: Delivery) -> _Endpoint:
    subscription = delivery.subscription
    return _endpoint(subscription.subscriber, _post_headers(subscription.options))


def _post_headers(options: Document) -> tuple[tuple[str, str], ...]:
    """The headers a subscription asks for, less those that it may not set or that are malformed."""
    asked = options.get("post_headers")
    if not isinstance(asked, dict) or not asked:
        return ()
    headers = tuple((name, value) for name, value in asked.items() if _may_set(name, value))
    if sum(len(name) + len(value) for name, value in headers) > MAX_POST_HEADERS_CHARACTERS:
        raise _Unusable(f"post_headers have more than {MAX_POST_HEADERS_CHARACTERS} characters")
    return headers


def _may_set(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and _HEADER_NAME.fullmatch(name) is not None
        and name.lower() not in _KEPT_HEADERS
        and not text.has_control_characters(value)
    )


# The parts of the key are limited, so the cache holds some 20 MiB at most.
@lru_cache(maxsize=1024)
def _endpoint(subscriber: str, post_headers: Sequence[tuple[str, str]]) -> _Endpoint:
    try:
        url = URL(subscriber)
        headers = CIMultiDict(_OWN_HEADERS | _authorization(url))
    except ValueError as error:
        raise _Unusable("the subscriber is not a URL that can be called") from error
    if not url.host or text.has_control_characters(subscriber):
        raise _Unusable("the subscriber is not a URL that can be called")
    headers.update(post_headers)
    return _Endpoint(url.with_user(None).with_fragment(None), headers)


def _authorization(url: URL) -> dict[str, str]:
    if url.user is None and url.password is None:
        return {}
    return {"Authorization": aiohttp.encode_basic_auth(url.user or "", url.password or "")}


def _facts(delivery: Delivery, body: bytes) -> dict[istr, str]:
    """The headers that tell a receiver what it got, and prove who sent it."""
    timestamp = int(delivery.sent_at.timestamp())
    facts = {
        _ID: delivery.id,
        _TIMESTAMP: str(timestamp),
        _MESSAGE_ID: delivery.message_id,
        _SUBSCRIPTION_ID: delivery.subscription.id,
        _QUEUE: delivery.subscription.queue.name,
        _ATTEMPT: str(delivery.attempt),
        # Should the receiver be a queue again, ours or another service's, its posts count on.
        _HOPS: str(delivery.hops + 1),
    }
    if delivery.secrets:
        facts[_SIGNATURE] = sign_webhook(delivery.secrets, delivery.id, timestamp, body)
    return facts


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of a body that is still arriving; what goes wrong there changes nothing."""
    start = bytearray()
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while len(start) < _ANSWER_BYTES and not response.content.at_eof():
                start += await response.content.read(_ANSWER_BYTES - len(start))
    except (aiohttp.ClientError, TimeoutError):
        response.close()
    return bytes(start)


def _detail(response: aiohttp.ClientResponse, start: bytes) -> str:
    if 300 <= response.status < 400:
        return "redirects are not followed"
    return text.detail(start.decode(errors="replace")) or text.detail(response.reason or "")


def _retry_after(response: aiohttp.ClientResponse, sent_at: datetime) -> int | None:
    """Seconds that the receiver asks us to wait, counted from `sent_at`; None when it does not."""
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,12}", value):
        seconds = int(value)
    else:
        try:
            instant = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        seconds = int((instant - sent_at).total_seconds())
    return min(max(seconds, 0), _LONGEST_RETRY_AFTER_SECONDS)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__
