"""The doctor's look at a file that no service uses."""

from __future__ import annotations

from pathlib import Path

from tests.clock import START
from tests.keys import K1, K2
from zaqar_notify.findings import Level
from zaqar_notify.models import Pool
from zaqar_notify.storage.pools import Registered
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite.diagnosis import diagnose


async def test_the_key_of_a_pool_s_uri_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    pool = Pool("p", "mongodb://user:hidden@host/db", 1, {}, None, START)
    storage = await open_storage(f"sqlite://{path}", keys=K1)
    await storage.control.pools.change(lambda _: Registered({"p": pool}))
    await storage.close()

    [missed] = [each for each in diagnose(path, K2) if each.check == "encryption"]
    [found] = [each for each in diagnose(path, K1) if each.check == "encryption"]

    assert (missed.level, "'k1'" in missed.sentence) == (Level.PROBLEM, True)
    assert found.level is Level.OK
