"""A dead letter to a queue of another message store travels as a job, and comes once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.contract.conftest import DRIVERS
from tests.contract.raw import stored_bodies
from tests.mongod import mongo_uri
from tests.mongodb.opened import store_of
from tests.mongodb.stops import refuse_claimed
from tests.workers.moving import DEAD, LEASE, LETTER, LETTER_TTL, SOURCE, Mover, opened
from tests.workers.office import OUTBOX, ClientPost
from workers.moves import PUT_OFF_SECONDS
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import Message
from zaqar_notify.rules.encryption import Keyring, is_envelope
from zaqar_notify.storage.mongodb.dead_letters import MOVE_SECONDS
from zaqar_notify.storage.planes import Storage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sqlite_store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/one.db"


@pytest.fixture(params=DRIVERS)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each driver."""
    return DRIVERS[request.param](tmp_path)


@pytest.fixture(params=["from it", "to it"])
def uris(request: pytest.FixtureRequest, uri: str, sqlite_store: str) -> tuple[str, str]:
    """The source's store and the target's."""
    return (uri, sqlite_store) if request.param == "from it" else (sqlite_store, uri)


@pytest.fixture
async def storage(uris: tuple[str, str]) -> AsyncIterator[Storage]:
    async with opened(*uris) as storage:
        yield storage


@pytest.fixture
def mover(storage: Storage) -> Mover:
    return Mover(storage)


def dead(letter_id: str, *, posted_at: datetime, now: datetime) -> Message:
    """The letter on the dead-letter queue, as a claim within one store moves it."""
    ends_at = now + timedelta(seconds=LETTER_TTL)
    return Message(
        letter_id,
        LETTER.body,
        LETTER_TTL,
        posted_at,
        ends_at,
        checksum=LETTER.checksum,
        attributes=LETTER.attributes,
    )


async def test_a_dead_letter_to_another_store_is_as_one_within_a_store(mover: Mover) -> None:
    posted_at = mover.clock.now()
    letter_id = await mover.post_letter()

    assert await mover.claim() == []
    assert await mover.all_on(SOURCE) == []
    await mover.moved()

    expected = dead(letter_id, posted_at=posted_at, now=mover.clock.now())
    assert await mover.all_on(DEAD) == [expected]
    async with mover.storage.at(DEAD) as store:
        assert await store.messages.get(DEAD, [letter_id], now=mover.clock.now()) == [expected]
        page = await store.messages.page(
            DEAD, marker=None, limit=10, now=mover.clock.now(), without_client=ClientPost.client_id
        )
    assert page.messages == []
    assert await mover.claim(DEAD) == [letter_id]


@pytest.mark.parametrize("instant", ["claimed", "posted"])
async def test_a_worker_that_is_killed_loses_and_doubles_no_dead_letter(
    uris: tuple[str, str], instant: str
) -> None:
    command = [sys.executable, "-m", "tests.workers.moving", *uris, instant]
    dying = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False)
    assert dying.returncode == -signal.SIGKILL
    async with opened(*uris) as storage:
        mover = Mover(storage)
        mover.clock.advance(seconds=2 * LEASE)
        assert len(await mover.all_on(DEAD)) == (instant == "posted")
        assert len(await mover.all_in(OUTBOX)) == 1

        await mover.moved()

        assert [message.body for message in await mover.all_on(DEAD)] == [LETTER.body]
        assert await mover.all_on(SOURCE) == []


async def test_a_dead_letter_that_was_read_and_deleted_does_not_come_again(
    sqlite_store: str, uri: str
) -> None:
    command = [sys.executable, "-m", "tests.workers.moving", sqlite_store, uri, "posted"]
    await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False)
    async with opened(sqlite_store, uri) as storage:
        mover = Mover(storage)
        mover.clock.advance(seconds=2 * LEASE)
        async with storage.at(DEAD) as store:
            await store.messages.purge(DEAD, now=mover.clock.now())

        await mover.moved()

        assert await mover.all_on(DEAD) == []


async def test_a_claim_that_broke_off_after_its_job_was_done_brings_the_letter_once(
    sqlite_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On MongoDB the job is stored before the message is removed."""
    async with opened(mongo_uri(), sqlite_store) as storage:
        mover = Mover(storage)
        await mover.post_letter()
        messages = store_of(storage).collections.messages
        with monkeypatch.context() as broken:
            broken.setattr(messages, "delete_many", refuse_claimed(messages.delete_many))
            with pytest.raises(StorageUnavailable):
                await mover.claim()
        await mover.moved()

        mover.clock.advance(seconds=MOVE_SECONDS)
        assert await mover.claim() == []
        await mover.moved()

        assert len(await mover.all_on(DEAD)) == 1
        assert await mover.all_on(SOURCE) == []


async def test_a_letter_that_comes_back_and_dies_again_is_moved_again(
    sqlite_store: str, tmp_path: Path
) -> None:
    async with opened(sqlite_store, f"sqlite:///{tmp_path}/two.db") as storage:
        mover = Mover(storage)
        letter_id = await mover.post_letter()
        back = {"_dead_letter_queue": SOURCE.name, "_max_claim_count": 0}
        await storage.queues.create(DEAD, metadata=back, now=mover.clock.now())

        for ref in (SOURCE, DEAD, SOURCE):
            await mover.claim(ref)
            await mover.moved()
            mover.clock.advance(seconds=1)
            if ref == DEAD:
                assert await mover.claim() == [letter_id]
                mover.clock.advance(seconds=LEASE)

        assert [message.id for message in await mover.all_on(DEAD)] == [letter_id]


async def test_a_letter_waits_for_its_store_while_other_jobs_go_on(
    sqlite_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StorageUnavailable("no answer")

    async with opened(sqlite_store, f"sqlite:///{tmp_path}/two.db") as storage:
        mover = Mover(storage)
        await mover.post_letter()
        await mover.claim()
        await mover.subscribe("http://receiver")
        with monkeypatch.context() as outage:
            outage.setattr(storage.pools["other"].messages, "post", away)
            await mover.post(b"1")
            await mover.work_off()
        assert mover.sink.bodies("http://receiver") == [b"1"]
        assert len(await mover.all_in(OUTBOX)) == 1

        mover.clock.advance(seconds=PUT_OFF_SECONDS)
        await mover.moved()

        assert [message.body for message in await mover.all_on(DEAD)] == [LETTER.body]


async def test_a_letter_that_was_encrypted_is_so_on_its_way_and_where_it_comes(
    uris: tuple[str, str],
) -> None:
    async with opened(*uris, keys=Keyring({"k1": os.urandom(32)})) as storage:
        mover = Mover(storage)
        source, target = storage.pools.values()
        await mover.post_letter(**{ENCRYPT: True})

        await mover.claim()
        on_the_way = await stored_bodies(source)
        await mover.moved()

        arrived = await stored_bodies(target)
        assert on_the_way
        assert arrived
        assert all(is_envelope(body) for body in (*on_the_way, *arrived))
        [letter] = await mover.all_on(DEAD)
        assert (letter.body, letter.checksum) == (LETTER.body, LETTER.checksum)
