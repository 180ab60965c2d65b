"""A change of keys on MongoDB whose process is killed."""

from __future__ import annotations

import base64
import os
import subprocess
import sys

from tests.clock import START
from tests.contract.steps import bodies, everything, post
from tests.mongod import mongo_uri
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.rekeying import rekey

K1, K2 = (f"{key_id}:{base64.b64encode(os.urandom(32)).decode()}" for key_id in ("k1", "k2"))
QUEUE = QueueRef("project", "orders")


async def opened(uri: str, keys: str) -> Storage:
    return await open_storage(uri, keys=Settings(encryption_keys=keys).keyring)


def begin_and_die(uri: str) -> None:
    """Change keys in a process that is killed after its first write."""
    arguments = (sys.executable, "-m", "tests.mongodb.rekeying", uri, f"{K2},{K1}")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"100\n"
        process.kill()


async def test_a_change_of_keys_that_is_killed_is_finished_by_the_next_one() -> None:
    uri = mongo_uri()
    posted = [str(number) for number in range(1500)]
    storage = await opened(uri, K1)
    await storage.queues.create(QUEUE, metadata={ENCRYPT: True}, now=START)
    await post(storage, QUEUE, bodies=posted)
    await storage.close()

    begin_and_die(uri)
    storage = await opened(uri, f"{K2},{K1}")
    assert await storage.store.encrypted.key_ids() == ["k1", "k2"]
    done = await rekey(storage.encrypted, storage.keys, progress=lambda _: None)
    await storage.close()

    assert 0 < done.done <= len(posted) - 100
    assert done.unused == ["k1"]
    storage = await opened(uri, K2)
    assert bodies(await everything(storage, QUEUE)) == posted[:1000]
    assert (await storage.queues.stats(QUEUE, now=START)).total == len(posted)
    await storage.close()
