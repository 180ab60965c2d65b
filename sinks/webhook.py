"""Deliveries over HTTP: one `POST` per message, signed as Standard Webhooks says.

The payload is Zaqar's, to the byte; further facts travel in headers. Redirects are not followed,
since the target of one could be anything.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from http import HTTPStatus
from typing import ClassVar

import msgspec

from sinks import headers, text
from sinks.answer import Response
from sinks.connections import NoAnswer, Origin
from sinks.forming import Unformed, formed
from sinks.guard import AddressForbidden, AddressGuard, diagnose_reach
from sinks.http import HttpClient
from sinks.identity import PRIVATE, SCHEMA, TLS, check_identity, identity_of
from sinks.proxy import ProxyUnavailable, diagnose_proxy
from sinks.retry_after import asks_again, seconds_to_wait
from sinks.urls import WebUrl, read_url
from zaqar_notify import __version__
from zaqar_notify.delivery.forms import (
    CannotForm,
    Form,
    has_own_form,
    post_data_of,
)
from zaqar_notify.delivery.installation import MARK_HEADER, installation_mark
from zaqar_notify.delivery.kinds import Kind, Relay, Sink
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.findings import Finding
from zaqar_notify.models import Delivery, JsonObject, Outcome, Verdict
from zaqar_notify.rules.formats import Format, Forms
from zaqar_notify.rules.proxies import Proxy, read_proxy
from zaqar_notify.rules.unread import Warn
from zaqar_notify.rules.webhook_signing import sign_webhook
from zaqar_notify.settings import Settings

PROXY_PAUSE_SECONDS = 5
"""How long a receiver is left alone when the operator's proxy can't be used."""

_OWN_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"zaqar-notify/{__version__}",
}
_LATER_STATUSES = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.LOCKED,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


def check_url(url: str, guard: AddressGuard) -> None:
    """Refuse a URL that can't be called, or whose host the guard forbids."""
    read = read_url(url)
    try:
        guard.check_host(read.host, read.port)
    except AddressForbidden as error:
        raise ValidationFailed(f"subscriber: {error}") from error


def proxy_of(settings: Settings) -> Proxy | None:
    uri = settings.delivery_proxy.get_secret_value()
    return read_proxy(uri) if uri else None


class WebhookKind(Kind):
    """`http:` and `https:`."""

    schemes = ("http", "https")
    forms = Forms(frozenset(Format), takes_templates=True, has_headers=True)
    takes_batches = True
    options: ClassVar[Mapping[str, JsonObject]] = {
        "post_headers": headers.SCHEMA,
        "post_data": {"type": ["string", "null"], "must": "be a string"},
        TLS: SCHEMA,
    }
    secret_fields: ClassVar[Mapping[str, Sequence[str]]] = {TLS: PRIVATE}

    def check(self, uri: str, settings: Settings) -> None:
        check_url(uri, AddressGuard.of(settings))

    def check_options(self, options: JsonObject) -> None:
        asked = options.get("post_headers")
        headers.check_length(asked)
        super().check_options(options)
        check_identity(options)

    def check_use(self, options: JsonObject) -> None:
        headers.check_identity(options.get("post_headers"))

    def warn_of_options(self, options: JsonObject, warn: Warn) -> None:
        headers.warn_of_kept(options.get("post_headers"), warn)

    async def diagnose(self, settings: Settings) -> Sequence[Finding]:
        proxy = proxy_of(settings)
        found = [] if proxy is None else [await diagnose_proxy(proxy)]
        return [*diagnose_reach(settings), *found]

    def sink(self, settings: Settings, relay: Relay) -> Sink:
        return WebhookSink(settings, AddressGuard.of(settings), relay)


class WebhookSink(Sink):
    """Posts to `http:` and `https:` subscribers over kept connections.

    Args:
        relay: Has the key of SNS envelopes; None: they can't be signed.
        tls: The certificates to trust; None: the system's.
        name_servers: The servers to ask, as ADDRESS:PORT; none: the host's.
    """

    def __init__(
        self,
        settings: Settings,
        guard: AddressGuard,
        relay: Relay | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        name_servers: Sequence[str] = (),
    ) -> None:
        self._client = HttpClient(
            guard,
            connect_seconds=settings.delivery_connect_timeout_seconds,
            total_seconds=settings.delivery_timeout_seconds,
            most_requests=settings.delivery_concurrency,
            tls=tls,
            name_servers=name_servers,
            proxy=proxy_of(settings),
            direct=settings.delivery_proxy_except,
        )
        self._troubles: tuple[str, ...] = ()
        self._mark = f"{MARK_HEADER}: {installation_mark(settings)}\r\n".encode()
        self._settings = settings
        self._relay = relay

    @property
    def troubles(self) -> Sequence[str]:
        return self._troubles

    async def deliver(self, delivery: Delivery) -> Outcome:
        return await self.post(delivery, delivery.subscription.subscriber)

    async def post(self, delivery: Delivery, url: str, *, token: str = "") -> Outcome:
        """Try once to deliver to the URL.

        Args:
            token: The value of `X-Auth-Token`, which `post_headers` can't replace; empty: the subscription's.
        """
        options = delivery.subscription.options
        own = f"X-Auth-Token: {token}\r\n" if token else ""
        try:
            chosen = _post_headers(options, has_token=bool(token))
            if has_own_form(options):
                form = await formed(delivery, self._settings, self._relay)
                template = request_template(url, _beside(form, chosen))
                own += "".join(f"{name}: {value}\r\n" for name, value in form.headers)
                body = form.body
            else:
                made = post_data_of(delivery, self._settings)
                body = delivery.payload if made is None else made
                template = request_template(url, chosen)
        except Unformed as unformed:
            return unformed.outcome
        except (Unusable, CannotForm) as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        project = delivery.subscription.queue.project
        origin = template.origin
        if (identity := identity_of(options)) is not None:
            origin = msgspec.structs.replace(origin, identity=identity)
        head = template.head + own.encode()
        request = (head, self._mark, _facts(delivery, body), body)
        try:
            answer = await self._client.post(origin, request, project=project)
        except ProxyUnavailable as error:
            self._troubles = (f"the proxy can't be used: {error}",)
            return Outcome(
                Verdict.POSTPONED,
                detail=text.detail(self._troubles[0]),
                retry_after_seconds=PROXY_PAUSE_SECONDS,
            )
        except AddressForbidden as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        except NoAnswer as error:
            return Outcome(Verdict.TRY_LATER, detail=text.detail(str(error)))
        self._troubles = ()
        return _outcome(answer, delivery.sent_at)

    async def close(self) -> None:
        self._client.close()


def judge(status: int) -> Verdict:
    """The verdict that an HTTP status stands for."""
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status == HTTPStatus.GONE:
        return Verdict.GONE
    if 400 <= status < 500 and status not in _LATER_STATUSES:
        return Verdict.REFUSED
    return Verdict.TRY_LATER


class Unusable(ValueError):
    """The subscription can't be served; the sentence says why."""


class RequestTemplate(msgspec.Struct, frozen=True):
    """The common part of all deliveries to one subscriber; the head lacks the facts of each delivery."""

    origin: Origin
    head: bytes


def _post_headers(options: JsonObject, *, has_token: bool) -> tuple[tuple[str, str], ...]:
    """The headers a subscription asks for, less those that it may not set or that are malformed."""
    asked = options.get("post_headers")
    if not isinstance(asked, dict) or not asked:
        return ()
    chosen = tuple(
        (name, value)
        for name, value in asked.items()
        if headers.may_set(name, value, has_token=has_token)
    )
    if sum(len(name) + len(value) for name, value in chosen) > headers.MAX_CHARACTERS:
        raise Unusable(f"post_headers have more than {headers.MAX_CHARACTERS} characters")
    return chosen


def _beside(form: Form, chosen: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The content type of a form, and the headers a subscription asks for, less those that the form has itself."""
    own = {name.lower() for name, _ in form.headers}
    if form.is_fixed:
        own.add("content-type")
    beside = ((name, value) for name, value in chosen if name.lower() not in own)
    return (("Content-Type", form.content_type), *beside)


# The parts of the key are limited, so the cache holds some 20 MiB at most.
@lru_cache(maxsize=1024)
def request_template(subscriber: str, post_headers: Sequence[tuple[str, str]]) -> RequestTemplate:
    """The origin and the head for a subscriber; raises Unusable."""
    try:
        url = read_url(subscriber)
    except ValidationFailed as error:
        raise Unusable(str(error)) from error
    lines = {name.lower(): line for name, line in _header_lines(url, post_headers)}
    head = f"POST {url.target} HTTP/1.1\r\n{''.join(lines.values())}"
    return RequestTemplate(Origin(url.is_tls, url.host, url.port), head.encode())


def _header_lines(
    url: WebUrl, post_headers: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    """Names with their lines; a later one replaces an earlier one of its name."""
    given = [("Authorization", url.authorization)] if url.authorization else []
    for name, value in (
        ("Host", url.host_header),
        *_OWN_HEADERS.items(),
        *given,
        *post_headers,
    ):
        yield name, f"{name}: {value}\r\n"


def _facts(delivery: Delivery, body: bytes) -> bytes:
    """The end of a head: the facts of this delivery, and the proof of its sender."""
    timestamp = int(delivery.sent_at.timestamp())
    signature = ""
    if delivery.secrets:
        signed = sign_webhook(delivery.secrets, delivery.id, timestamp, body)
        signature = f"webhook-signature: {signed}\r\n"
    attributes = ""
    if delivery.message.attributes is not None:
        attributes = f"Zaqar-Attributes: {delivery.message.attributes.decode('ascii')}\r\n"
    ids = ",".join(delivery.batch) or delivery.message_id
    # Should the receiver be a queue again, ours or another service's, its posts count on the hops.
    return (
        f"Content-Length: {len(body)}\r\n"
        f"webhook-id: {delivery.id}\r\n"
        f"webhook-timestamp: {timestamp}\r\n"
        f"{signature}"
        f"{attributes}"
        f"Zaqar-Message-Id: {ids}\r\n"
        f"Zaqar-Subscription-Id: {delivery.subscription.id}\r\n"
        f"Zaqar-Queue: {delivery.subscription.queue.public_name}\r\n"
        f"Zaqar-Attempt: {delivery.attempt}\r\n"
        f"Zaqar-Hops: {delivery.hops + 1}\r\n"
        "\r\n"
    ).encode()


def _outcome(answer: Response, sent_at: datetime) -> Outcome:
    verdict = judge(answer.status)
    if verdict is Verdict.DELIVERED and not answer.pacing:
        return Outcome(verdict, answer.status)
    wait = None
    if verdict is not Verdict.GONE:
        wait = seconds_to_wait(answer.pacing, answer.status, sent_at)
    if verdict is Verdict.DELIVERED:
        return Outcome(verdict, answer.status, retry_after_seconds=wait)
    if verdict is Verdict.REFUSED and asks_again(answer.pacing):
        verdict = Verdict.TRY_LATER  # Whatever the status: the receiver expects us again.
    return Outcome(verdict, answer.status, _detail(answer), wait, excerpt=_excerpt(answer))


def _detail(answer: Response) -> str:
    if 300 <= answer.status < 400:
        return f"HTTP {answer.status}, and redirects are not followed"
    return f"HTTP {answer.status}"


def _excerpt(answer: Response) -> str:
    """The receiver's own words. They may repeat our request, credentials included."""
    return text.detail(answer.start.decode(errors="replace")) or text.detail(answer.reason)
