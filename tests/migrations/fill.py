"""Makes the stores that `test_former_stores.py` opens: one of everything that a store can hold.

Run it in a checkout of the revision whose stores are to be opened for ever after, before the first step
that follows is added: `python -m tests.migrations.fill`. It writes `stores/DRIVER-VERSION.…`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
from bson import json_util

from tests.clock import START
from tests.mongod import mongo_uri
from tests.workers.office import OUTBOX, QUEUE, REFUSED, ClientPost
from zaqar_notify.delivery import (
    FanOut,
    InternalPost,
    held_record,
    outgoing_messages,
    read_work,
    retry_record,
    undelivered_record,
)
from zaqar_notify.models import DeadLetter, NewMessage, QueueRef, Subscription
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey
from zaqar_notify.storage.internal import POISON_REF
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

STORES = Path(__file__).parent / "stores"
CLAIM_ID = "c" * 32
KEY = IdempotencyKey("key", b"fingerprint", 86400)
DEAD = DeadLetter(QueueRef(QUEUE.project, "dead"), max_claim_count=0, ttl=None)
PURGED = QueueRef(QUEUE.project, "purged")
RECEIVER, DISABLED = "http://receiver", "http://disabled"
DELAY_SECONDS = 60
TTL_SECONDS = 30 * 86400
SETTINGS = Settings()


class KeyedPost(ClientPost):
    idempotency_key = KEY


async def fill(storage: Storage) -> dict[str, Any]:
    """Put one of everything into an empty store.

    Returns:
        Ids by the text of the message, and all other ids and markers that were handed out.
    """
    facts: dict[str, Any] = {"ids": {}}
    await storage.queues.create(QUEUE, metadata={"colour": "red"}, now=START)

    async def post(*texts: str, delay: int = 0, ref: QueueRef = QUEUE, keyed: bool = False) -> None:
        made = KeyedPost if keyed else ClientPost
        messages = [NewMessage(json.dumps(text).encode(), TTL_SECONDS, delay) for text in texts]
        posted = await storage.post(ref, made(messages, SETTINGS), now=START)
        facts["ids"] |= zip(texts, posted.ids, strict=True)

    async def claim(claim_id: str, rule: DeadLetter | None = None) -> None:
        await storage.claim(
            QUEUE,
            claim_id=claim_id,
            ttl=3600,
            grace=60,
            limit=1,
            now=START,
            dead_letter=None if rule is None else lambda _: rule,
        )

    await post("dead")
    await claim("d" * 32, DEAD)
    await post("claimed")
    await claim(CLAIM_ID)
    await post("free 1", "free 2")
    await post("remembered 1", "remembered 2", keyed=True)
    await post("deleted")
    await storage.messages.delete(QUEUE, facts["ids"]["deleted"], claim_id=None, now=START)
    page = await storage.messages.page(QUEUE, marker=None, limit=1, now=START)
    facts["marker of free 1"] = page.marker
    await post("left behind", ref=PURGED)
    await storage.messages.purge(PURGED, now=START)
    receiver = await _subscribe(storage, "1" * 32, RECEIVER)
    disabled = await _subscribe(storage, "2" * 32, DISABLED, is_disabled=True)
    await post("owed")
    await post("delayed", delay=DELAY_SECONDS)
    facts["subscriptions"] = [receiver.id, disabled.id]
    await _owe(storage, receiver, disabled)
    return facts


async def _subscribe(
    storage: Storage, subscription_id: str, subscriber: str, *, is_disabled: bool = False
) -> Subscription:
    return await storage.subscriptions.create(
        Subscription(
            id=subscription_id,
            queue=QUEUE,
            subscriber=subscriber,
            ttl=TTL_SECONDS,
            options={"post_data": '"$zaqar_message$"'} if is_disabled else {},
            created_at=START,
            expires_at=START + timedelta(seconds=TTL_SECONDS),
            confirmed=True,
            disabled_at=START if is_disabled else None,
        ),
        renew=lambda existing: existing,
        now=START,
    )


async def _owe(storage: Storage, receiver: Subscription, disabled: Subscription) -> None:
    """The records of an engine: a retry, a held delivery, one given up, and a job put aside."""
    [job] = await _messages(storage, OUTBOX)
    work = read_work(job)
    assert isinstance(work, FanOut)
    [parcel] = outgoing_messages(work)
    records = [
        retry_record(parcel, receiver, attempt=2, delay=DELAY_SECONDS, settings=SETTINGS),
        held_record(parcel, disabled, now=START),
        undelivered_record(parcel, receiver, outcome=REFUSED, attempts=3, now=START),
        (POISON_REF, NewMessage(body=job, ttl=TTL_SECONDS)),
    ]
    for ref, message in records:
        await storage.post(ref, InternalPost([message]), now=START)


async def _messages(storage: Storage, ref: QueueRef) -> Sequence[bytes]:
    page = await storage.messages.page(ref, marker=None, limit=100, now=START)
    return [message.body for message in page.messages]


async def _facts_of_new(uri: str) -> dict[str, Any]:
    storage = await open_storage(uri)
    try:
        return await fill(storage)
    finally:
        await storage.close()


def make_sqlite(directory: Path) -> None:
    path = directory / "store.db"
    facts = asyncio.run(_facts_of_new(f"sqlite://{path}"))
    with sqlite3.connect(path) as db:
        pragmas = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        }
        lines = [f"PRAGMA {name} = {value};" for name, value in pragmas.items()]
        dump = "\n".join([*lines, *db.iterdump()])
    _write(f"sqlite-{pragmas['user_version']}", ".sql", dump, facts)


def make_mongodb() -> None:
    uri = mongo_uri()
    facts = asyncio.run(_facts_of_new(uri))
    with pymongo.MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        database = client.get_default_database()
        stored = {
            name: {
                "indexes": [
                    {key: value for key, value in index.items() if key not in ("v", "ns")}
                    for index in database[name].list_indexes()
                    if index["name"] != "_id_"
                ],
                "documents": list(database[name].find()),
            }
            for name in sorted(database.list_collection_names())
        }
    [schema] = stored["schema"]["documents"]
    text = json_util.dumps(stored, json_options=json_util.CANONICAL_JSON_OPTIONS, indent=1)
    _write(f"mongodb-{schema['version']}", ".json", text, facts)


def _write(name: str, suffix: str, text: str, facts: dict[str, Any]) -> None:
    (STORES / f"{name}{suffix}").write_text(text + "\n")
    (STORES / f"{name}.facts.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    STORES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        make_sqlite(Path(directory))
    make_mongodb()
