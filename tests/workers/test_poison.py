"""An operator's commands for jobs that no worker could finish."""

from __future__ import annotations

from datetime import timedelta

from tests.workers.office import OUTBOX, QUEUE, RETRY, Office
from zaqar_notify.delivery import OWED_TTL_SECONDS, InternalPost
from zaqar_notify.delivery.poison import PutAside, drop, give_back, put_aside
from zaqar_notify.models import NewMessage
from zaqar_notify.storage.internal import POISON_REF

UNREADABLE = b"not JSON"
LATER = b'{"job": "deliver", "version": 99, "project": "p", "queue": "q", "subscription_id": "s"}'


async def put_all_aside(office: Office, *bodies: bytes) -> None:
    """As if ten workers had died of each."""
    messages = [NewMessage(body=body, ttl=OWED_TTL_SECONDS) for body in bodies]
    await office.storage.post(POISON_REF, InternalPost(messages), now=office.clock.now())


async def a_job(office: Office) -> bytes:
    """The job of a post, taken away from the workers."""
    await office.post(b'"secret"')
    [job] = await office.all_in(OUTBOX)
    await office.storage.messages.delete_many(
        OUTBOX, [job.id], claim_ids=None, now=office.clock.now()
    )
    return job.body


async def all_put_aside(office: Office, job: str | None = None) -> list[PutAside]:
    now = office.clock.now()
    return [what async for what, _ in put_aside(office.storage.store, job=job, now=now)]


async def give_all_back(office: Office) -> list[bool]:
    now = office.clock.now()
    return [
        await give_back(office.storage.store, what, message, settings=office.settings, now=now)
        async for what, message in put_aside(office.storage.store, job=None, now=now)
    ]


async def test_they_are_described_without_their_messages(office: Office) -> None:
    await office.subscribe("http://receiver")
    job = await a_job(office)
    await put_all_aside(office, job, UNREADABLE)

    fan_out, unreadable = await all_put_aside(office)

    assert (fan_out.job, fan_out.project, fan_out.queue) == ("fan_out", QUEUE.project, QUEUE.name)
    assert fan_out.bytes == len(job)
    assert "secret" not in str(fan_out)
    assert (unreadable.job, unreadable.queue) == ("", "")
    assert await all_put_aside(office, unreadable.id) == [unreadable]
    assert await all_put_aside(office, "no such job") == []


async def test_there_may_be_more_than_a_page_of_them(office: Office) -> None:
    await put_all_aside(office, *[b"%d" % number for number in range(205)])

    assert len({what.id for what in await all_put_aside(office)}) == 205


async def test_a_job_that_is_given_back_is_delivered(office: Office) -> None:
    await office.subscribe("http://receiver")
    await put_all_aside(office, await a_job(office))

    assert await give_all_back(office) == [True]
    office.clock.advance(seconds=7200)
    await office.work_off()

    assert office.sink.bodies("http://receiver") == [b'"secret"']
    assert await office.all_in(POISON_REF) == []


async def test_a_delivery_of_a_later_release_is_given_back_as_it_is(office: Office) -> None:
    await put_all_aside(office, LATER)

    assert await give_all_back(office) == [True]

    [message] = await office.all_in(RETRY)
    assert message.body == LATER
    assert message.expires_at == office.clock.now() + timedelta(seconds=OWED_TTL_SECONDS)


async def test_what_can_not_be_read_stays_where_it_is_until_it_is_dropped(office: Office) -> None:
    await put_all_aside(office, UNREADABLE)

    assert await give_all_back(office) == [False]
    assert len(await all_put_aside(office)) == 1

    now = office.clock.now()
    async for _, message in put_aside(office.storage.store, job=None, now=now):
        await drop(office.storage.store, message, now=now)
    assert await all_put_aside(office) == []
