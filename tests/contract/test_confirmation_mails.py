"""A project that subscribes a stranger's mailbox again and again cannot fill it with confirmations."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr

from tests.clock import ManualClock
from tests.doorbell import SilentDoorbell
from tests.kinds import KINDS
from tests.partitions import partition
from zaqar_notify import subscriptions
from zaqar_notify.confirmations import DELAYS_SECONDS, PLACE_SECONDS
from zaqar_notify.delivery import OwedDelivery, read_work
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import outbox_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

SETTINGS = Settings(
    smtp_host="mail.example.org",
    smtp_sender="ops@example.org",
    require_confirmation=True,
    signed_url_secrets=(SecretStr("secret"),),
    delivery_partitions=4,
)
QUEUES = [
    QueueRef("project1", "orders"),
    QueueRef("project1", "invoices"),
    QueueRef("other", "q"),
]


def service_on(storage: Storage, clock: ManualClock) -> Service:
    storage.clock = clock
    return Service(storage, SETTINGS, clock, SilentDoorbell(), KINDS)


async def subscribe(
    service: Service, queue: QueueRef, subscriber: str, ttl: int = 864_000
) -> Subscription:
    return await subscriptions.create(
        service, queue, subscriber=subscriber, ttl=ttl, confirm_at=confirm_at
    )


def confirm_at(subscription: Subscription) -> str:
    return f"/confirm/{subscription.id}"


async def mails_until(service: Service, *, seconds: float) -> int:
    """How many confirmations the workers may deliver so long from now."""
    return len(await confirmations(service, seconds=seconds))


async def confirmations(service: Service, *, seconds: float = 0) -> Sequence[OwedDelivery]:
    clock = ManualClock(service.clock.now())
    clock.advance(seconds=seconds)
    works = []
    for number in range(SETTINGS.delivery_partitions):
        page = await service.storage.messages.page(
            outbox_ref(partition(number)), marker=None, limit=1000, now=clock.now()
        )
        works += [read_work(message.body) for message in page.messages]
    return [work for work in works if isinstance(work, OwedDelivery)]


async def test_a_mailbox_is_asked_ever_less_often_whoever_subscribes_it(storage: Storage) -> None:
    """From all queues and projects, in all spellings, by requests to confirm and by farewells."""
    service = service_on(storage, ManualClock())
    spellings = [
        "mailto:Victim@example.org",
        "mailto://victim+1@EXAMPLE.org",
        "mailto:victim%40example.org",
    ]

    for _ in range(4):
        for queue, spelling in zip(QUEUES, spellings, strict=True):
            subscription = await subscribe(service, queue, spelling)
            await subscriptions.confirm(
                service, queue, subscription.id, False, signed_for=[], confirm_at=confirm_at
            )

    assert await mails_until(service, seconds=0) == 3
    await subscribe(service, QUEUES[0], "mailto:somebody.else@example.org")
    assert await mails_until(service, seconds=0) == 3 + 1
    assert await mails_until(service, seconds=299) == 3 + 1
    assert await mails_until(service, seconds=300) == 4 + 1
    assert await mails_until(service, seconds=PLACE_SECONDS) == len(DELAYS_SECONDS) + 1


async def test_a_mailboxs_places_outlive_the_process_and_come_back_a_day_later(
    store_uri: str,
) -> None:
    clock = ManualClock()
    for _ in range(4):
        storage = await open_storage(store_uri)
        service = service_on(storage, clock)
        await subscribe(service, QUEUES[0], "mailto:victim@example.org")
        await subscribe(service, QUEUES[2], "mailto:victim@example.org")
        await storage.close()

    storage = await open_storage(store_uri)
    service = service_on(storage, clock)
    before = await mails_until(service, seconds=PLACE_SECONDS)
    clock.advance(seconds=PLACE_SECONDS)
    await subscribe(service, QUEUES[0], "mailto:victim@example.org")

    assert before == len(DELAYS_SECONDS)
    assert await mails_until(service, seconds=0) == before + 1
    await storage.close()


async def test_a_mail_whose_link_would_have_ended_is_not_sent(storage: Storage) -> None:
    service = service_on(storage, ManualClock())

    for _ in range(6):
        await subscribe(service, QUEUES[0], "mailto:victim@example.org", ttl=60)

    assert await mails_until(service, seconds=PLACE_SECONDS) == 3
    assert service.metrics.confirmations_withheld == 3


async def test_webhooks_are_asked_each_time(storage: Storage) -> None:
    service = service_on(storage, ManualClock())

    for _ in range(8):
        await subscribe(service, QUEUES[0], "http://example.org/hook")

    assert await mails_until(service, seconds=0) == 8
