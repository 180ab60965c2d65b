"""A person's way from a request to confirm until after unsubscribing: real mails, real pages, a real browser."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.browser import opened
from tests.service import Service, command
from tests.sinks.relay import Mail, MailRelay, relaying
from zaqar_notify.client import Client, ServiceWarning

PUBLIC_URL = "https://mq.example.org/messaging"
YOU = "mailto:you@example.org"
HEIGHT = "getComputedStyle(document.querySelector('button')).minHeight"


@pytest.fixture
async def relay() -> AsyncIterator[MailRelay]:
    async with relaying() as relay:
        yield relay


@pytest.fixture
async def mailing(relay: MailRelay, tmp_path: Path) -> AsyncIterator[Service]:
    environ = {
        "ZAQAR_SMTP_HOST": "127.0.0.1",
        "ZAQAR_SMTP_PORT": str(relay.port),
        "ZAQAR_SMTP_SENDER": "Ops <ops@example.org>",
        "ZAQAR_PUBLIC_URL": PUBLIC_URL,
        "ZAQAR_REQUIRE_CONFIRMATION": "true",
    }
    service = Service(tmp_path / "data", environ=environ)
    await asyncio.to_thread(service.start)
    yield service
    assert await asyncio.to_thread(service.stop) == 0


async def mail_number(relay: MailRelay, number: int) -> Mail:
    async with asyncio.timeout(20):
        while len(relay.mails) < number:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    return relay.mails[number - 1]


def here(service: Service, text: str) -> str:
    """The link in a text, without the proxy that would be before the service."""
    [path] = re.findall(rf"{PUBLIC_URL}(/v2/\w+\?token=[\w.-]+)", text)
    return f"{service.url}{path}"


async def run(service: Service, *arguments: str) -> str:
    """The output of a command for the project."""
    words = command("--url", service.url, "--project", "news", *arguments)
    done = await call(subprocess.run, words, capture_output=True, text=True, check=True)
    return str(done.stdout)


async def call(method: Any, *arguments: Any, **more: Any) -> Any:
    """A blocking call of the client, beside the relay."""
    return await asyncio.to_thread(method, *arguments, **more)


async def test_a_person_confirms_in_a_browser_reads_unsubscribes_and_gets_nothing_more(
    mailing: Service, relay: MailRelay, tmp_path: Path
) -> None:
    with Client(mailing.url, "news") as client:
        subscription_id = await call(client.subscribe, "q", YOU, ttl=3600)
        asking = await mail_number(relay, 1)
        link = here(mailing, asking.content.get_content())
        async with opened(link, tmp_path / "profile") as page:
            height = await page.run(HEIGHT)
            before = (await call(client.subscription, "q", subscription_id)).confirmed
            await page.press("button")
            shown = await page.run("document.querySelector('h1').innerText")
        await call(client.post, "q", "hello")
        notification = await mail_number(relay, 2)
        leave = here(mailing, notification.content["List-Unsubscribe"])
        form = {"List-Unsubscribe": "One-Click"}
        left = await call(requests.post, leave, data=form, timeout=10)
        await call(client.post, "q", "too late")
        [suppression] = await call(lambda: list(client.suppressions(YOU)))
        with pytest.warns(ServiceWarning, match="has unsubscribed"):
            await call(client.subscribe, "other", YOU)
        why = await run(mailing, "why", subscription_id, "--queue", "q")
        await run(mailing, "suppression", "delete", suppression.id, "--yes")
        await call(client.subscribe, "another", YOU)
        last = await mail_number(relay, 3)

    assert height == "44px", "The policy refuses the page's own style"
    assert before is False
    assert shown == "The subscription is confirmed"
    assert json.loads(notification.content.get_content())["body"] == "hello"
    assert left.status_code == 200
    assert f"zaqar-notify suppression delete {suppression.id}" in why
    assert suppression.source == "q"
    assert "the queue: another" in last.content.get_content()
