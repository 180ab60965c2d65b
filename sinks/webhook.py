"""Deliveries over HTTP: one `POST` per message, signed as Standard Webhooks says.

The payload is Zaqar's, to the byte; further facts travel in headers. Redirects are not followed,
since the target of one could be anything.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import ClassVar

import msgspec

from sinks import headers, text
from sinks.answer import Response
from sinks.connections import NoAnswer
from sinks.forming import Unformed, formed
from sinks.guard import AddressForbidden, AddressGuard, diagnose_reach
from sinks.heads import Unusable, beside, facts, post_headers_of, request_template
from sinks.http import HttpClient
from sinks.identity import PRIVATE, SCHEMA, TLS, check_identity, identity_of
from sinks.proxy import ProxyUnavailable, diagnose_proxy
from sinks.retry_after import asks_again, seconds_to_wait
from sinks.urls import read_url
from zaqar_notify.delivery.forms import (
    CannotForm,
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
from zaqar_notify.settings import Settings

PROXY_PAUSE_SECONDS = 5
"""How long a receiver is left alone when the operator's proxy can't be used."""

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
            chosen = post_headers_of(options, has_token=bool(token))
            if has_own_form(options):
                form = await formed(delivery, self._settings, self._relay)
                template = request_template(url, beside(form, chosen))
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
        request = (head, self._mark, facts(delivery, body), body)
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
