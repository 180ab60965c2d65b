"""Mails by the engine, to a real relay that has its limits."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable

import pytest

from sinks.email import EmailSink
from tests.clock import ManualClock
from tests.kinds import KINDS
from tests.sinks.relay import MailRelay, relaying
from tests.workers.office import QUEUE, Office
from workers.doorbell import LocalDoorbell
from workers.engine import Engine
from workers.relay import ServiceRelay
from zaqar_notify import subscriptions
from zaqar_notify.clock import SystemClock
from zaqar_notify.delivery.kinds import Sink
from zaqar_notify.models import Subscription
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage

MAILS = 120


class Mailing:
    """A mail sink, for every `mailto:` subscriber. The clock moves its pauses, too."""

    def __init__(self, service: Service) -> None:
        clock = service.clock
        self._sink = EmailSink(
            service.settings, ServiceRelay(service), timer=lambda: clock.now().timestamp()
        )

    @property
    def troubles(self) -> dict[str, int]:
        return {"mailto": len(self._sink.troubles)}

    def for_subscriber(self, uri: str) -> Sink | None:
        return self._sink if uri.startswith("mailto:") else None

    async def close(self) -> None:
        await self._sink.close()


class MailOffice(Office):
    def __init__(self, storage: Storage, clock: ManualClock, settings: Settings) -> None:
        super().__init__(storage, clock, settings)
        self.service = Service(storage, settings, clock, LocalDoorbell(), KINDS)
        self._mailing = Mailing(self.service)

    def engine(self, storage: Storage | None = None) -> Engine:
        return self.engine_with(self._mailing, storage)


def settings_for(relay: MailRelay, **more: object) -> Settings:
    values = {
        "smtp_host": "127.0.0.1",
        "smtp_port": relay.port,
        "smtp_sender": "zaqar@example.org",
        "retry_jitter": 0,
    }
    return Settings.model_validate(values | more)


@pytest.fixture
async def relay() -> AsyncIterator[MailRelay]:
    async with relaying() as relay:
        yield relay


@pytest.fixture
def mail_office(storage: Storage, clock: ManualClock, relay: MailRelay) -> MailOffice:
    return MailOffice(storage, clock, settings_for(relay, smtp_connections=16))


async def mail_all(office: MailOffice, relay: MailRelay, mends: Callable[[], None]) -> list[str]:
    """One message to many mailboxes, minute by minute until all have it; the recipients, in order. No
    mail's try is spent meanwhile.

    Args:
        mends: Called before each minute.
    """
    for number in range(MAILS):
        await office.subscribe(f"mailto:{number}@example.org")
    await office.post(b"1")
    while len(relay.mails) < MAILS:
        mends()
        await office.work_off()
        office.clock.advance(seconds=60)
        assert {owed.attempt for owed in await office.owed_deliveries()} <= {1}
    return sorted(mail.recipients[0] for mail in relay.mails)


EVERYBODY = sorted(f"{number}@example.org" for number in range(MAILS))


async def test_a_relay_with_few_connections_gets_each_mail_once(
    mail_office: MailOffice, relay: MailRelay
) -> None:
    relay.most_connections = 10

    assert await mail_all(mail_office, relay, lambda: None) == EVERYBODY
    assert relay.most_connections_seen <= 10
    assert relay.refusals <= 16


async def test_a_relay_with_a_rate_gets_each_mail_once(
    mail_office: MailOffice, relay: MailRelay
) -> None:
    def another_minute() -> None:
        relay.quota = len(relay.mails) + 30

    assert await mail_all(mail_office, relay, another_minute) == EVERYBODY
    assert relay.refusals <= 5 * 16


async def test_a_project_mails_no_faster_than_its_quota_and_loses_nothing(
    storage: Storage, clock: ManualClock, relay: MailRelay
) -> None:
    settings = settings_for(relay, smtp_connections=16, quota_mails_per_minute=40)
    office = MailOffice(storage, clock, settings)
    arrived: list[int] = []

    everybody = await mail_all(office, relay, lambda: arrived.append(len(relay.mails)))

    steps = [later - before for before, later in itertools.pairwise(arrived)]
    assert everybody == EVERYBODY
    assert max(steps) <= 40
    assert office.service.metrics.quota_refusals["mails_per_minute"] >= MAILS - 40


async def test_a_relay_that_the_operator_mends_gets_each_mail_once(
    mail_office: MailOffice, relay: MailRelay
) -> None:
    minutes = iter(["530 5.7.0 log in first"] * 20 + ["250 OK"] * 20)

    def another_minute() -> None:
        relay.to_sender = next(minutes)

    assert await mail_all(mail_office, relay, another_minute) == EVERYBODY


async def test_a_relay_may_take_longer_over_a_mail_than_a_lease_lasts(
    storage: Storage, relay: MailRelay
) -> None:
    """Two workers: the other one would take over jobs whose lease is not renewed."""
    settings, clock = settings_for(relay, delivery_lease_seconds=1), SystemClock()
    storage.clock = clock
    relay.scanned.clear()
    office = MailOffice(storage, clock, settings)  # type: ignore[arg-type]
    await office.subscribe("mailto:you@example.org")

    async with office.open():
        other = office.engine_with(Mailing(office.service))
        running = asyncio.create_task(other.run())
        await office.post(b"1")
        await relay.got_mail.wait()
        await asyncio.wait([running], timeout=2.5)
        relay.scanned.set()
        await office.settled()
        await other.drain(5)
        await running

    assert len(relay.mails) == 1


def consenting(
    storage: Storage, clock: ManualClock, relay: MailRelay, *, require_confirmation: bool
) -> MailOffice:
    """An office whose mails have links."""
    settings = settings_for(
        relay,
        require_confirmation=require_confirmation,
        public_url="https://mq.example.org",
        signed_url_secrets="secret",
    )
    storage.clock = clock
    return MailOffice(storage, clock, settings)


async def subscribe(office: MailOffice, address: str) -> Subscription:
    return await subscriptions.create(
        office.service, QUEUE, subscriber=f"mailto:{address}", confirm_at=lambda each: each.id
    )


def token_in(text: str, path: str) -> str:
    """The token of the link with this path."""
    [token] = re.findall(rf"https://mq\.example\.org{path}\?token=([\w.-]+)", text)
    return str(token)


async def test_a_mailbox_gets_mails_from_its_confirmation_until_it_unsubscribes(
    storage: Storage, clock: ManualClock, relay: MailRelay
) -> None:
    office = consenting(storage, clock, relay, require_confirmation=True)
    await subscribe(office, "you@example.org")

    await office.post(b"1")
    await office.work_off()
    [asking] = relay.mails
    token = token_in(asking.content.get_content(), "/v2/confirm")
    await subscriptions.confirm_by_link(office.service, token)
    await office.post(b"2")
    await office.work_off()
    [_, notification] = relay.mails
    token = token_in(notification.content["List-Unsubscribe"], "/v2/unsubscribe")
    await subscriptions.unsubscribe_by_link(office.service, token)
    await office.post(b"3")
    await office.work_off()

    assert '"body": 2' in notification.content.get_content()
    assert len(relay.mails) == 2


async def test_each_mail_to_an_address_that_has_unsubscribed_is_left_out_counted_and_shown(
    storage: Storage, clock: ManualClock, relay: MailRelay
) -> None:
    office = consenting(storage, clock, relay, require_confirmation=False)
    one, other = [await subscribe(office, name) for name in ("you+1@a.org", "You+2@a.org")]
    await subscribe(office, "another@a.org")
    await office.post(b"1")
    await office.work_off()
    [mail] = [mail for mail in relay.mails if mail.recipients == ["you+1@a.org"]]

    token = token_in(mail.content["List-Unsubscribe"], "/v2/unsubscribe")
    await subscriptions.unsubscribe_by_link(office.service, token)
    await office.post(b"2", b"3")
    await office.work_off()

    assert [mail.recipients for mail in relay.mails[3:]] == [["another@a.org"]] * 2
    for subscription in (one, other):
        records = await office.undelivered(subscription)
        assert [record.attempts for record in records] == [1, 1]
        assert all("unsubscribed at" in record.detail for record in records)
    assert office.service.metrics.suppressed == 4


async def test_a_tenant_can_t_read_the_proof_of_consent_in_what_was_not_delivered(
    storage: Storage, clock: ManualClock, relay: MailRelay
) -> None:
    office = consenting(storage, clock, relay, require_confirmation=True)
    relay.to_recipient = "550 5.1.1 refused: https://mq.example.org/v2/confirm?token=secret"
    subscription = await subscribe(office, "victim@example.org")

    await office.work_off()

    [record] = await office.undelivered(subscription)
    assert b"SubscriptionConfirmation" in bytes(record.payload)
    for secret in (b"token=", b"URL-Signature", b"URL-Expires"):
        assert secret not in bytes(record.payload)
    assert (record.status, "token=" in record.detail) == (550, False)
