"""Webhooks over TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sinks.guard import AddressGuard
from sinks.webhook import WebhookSink
from tests.sinks.builders import delivery_to
from tests.sinks.certificates import contexts
from tests.sinks.receiver import receiving
from zaqar_notify.models import Verdict
from zaqar_notify.settings import Settings


async def test_a_trusted_receiver_is_delivered_to_over_one_connection(
    settings: Settings, tmp_path: Path
) -> None:
    server, client = contexts(tmp_path)
    webhook = WebhookSink(settings, AddressGuard(allow=settings.delivery_allow), tls=client)
    async with receiving(tls=server) as receiver:
        outcomes = [await webhook.deliver(delivery_to(receiver.url())) for _ in range(3)]
        await webhook.close()

    assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
    assert receiver.connections == 1


async def test_a_receiver_without_a_trusted_certificate_is_tried_again(
    webhook: WebhookSink, tmp_path: Path
) -> None:
    server, _ = contexts(tmp_path)
    async with receiving(tls=server) as receiver:
        outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.verdict is Verdict.TRY_LATER
    assert outcome.detail.startswith("TLS: ")
    assert not receiver.requests


async def test_plain_http_where_tls_was_asked_for_is_tried_again(
    webhook: WebhookSink, settings: Settings
) -> None:
    async with receiving() as receiver:
        url = receiver.url().replace("http:", "https:")
        outcome = await asyncio.wait_for(webhook.deliver(delivery_to(url)), 10)

    assert outcome.verdict is Verdict.TRY_LATER
