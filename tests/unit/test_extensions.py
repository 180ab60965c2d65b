"""A package that is installed beside the service, and names a driver of its own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from tests.packages import install
from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.driver import NEEDED, Capability, Driver
from zaqar_notify.storage.registry import driver_of, open_storage


class Trial(Driver):
    about = "a trial"
    capabilities = NEEDED

    async def open(
        self, uri: str, *, unreliable: bool, prepare: bool, keys: Keyring
    ) -> MessageStore:
        return (await open_storage(uri.replace("trial:", "sqlite:", 1))).store


class MessagesAlone(Trial):
    """Its stores keep no queues' records and subscriptions."""

    opened: ClassVar[list[MessageStore]] = []

    async def open(
        self, uri: str, *, unreliable: bool, prepare: bool, keys: Keyring
    ) -> MessageStore:
        store = await super().open(
            uri.replace("alone:", "trial:"), unreliable=unreliable, prepare=prepare, keys=keys
        )
        store.control = None
        self.opened.append(store)
        return store


class Unordered(Trial):
    about = "a heap"
    capabilities = NEEDED - {Capability.FIFO}


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "trial": "tests.unit.test_extensions:Trial",
        "sqlite": "tests.unit.test_extensions:Trial",
        "alone": "tests.unit.test_extensions:MessagesAlone",
        "heap": "tests.unit.test_extensions:Unordered",
        "nothing": "no_such_module:Driver",
        "other": "pathlib:Path",
    }
    install(tmp_path, "zaqar_notify.drivers", names, monkeypatch=monkeypatch)


async def test_a_store_is_opened_by_the_driver_of_another_package(tmp_path: Path) -> None:
    storage = await open_storage(f"trial://{tmp_path}/store.db")
    queue = QueueRef("demo", "orders")

    assert await storage.queues.create(queue, metadata={}, now=storage.clock.now())

    await storage.close()


async def test_a_store_that_lacks_what_guarantees_rest_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="a heap, which lacks FIFO"):
        await open_storage(f"heap://{tmp_path}/store.db")


@pytest.mark.parametrize("control", [None, "alone", "nothing"])
async def test_stores_that_were_opened_are_closed_when_the_start_is_refused(
    tmp_path: Path, control: str | None
) -> None:
    MessagesAlone.opened.clear()
    control_uri = control and f"{control}://{tmp_path}/control.db"

    with pytest.raises(StartRefused):
        await open_storage(f"alone://{tmp_path}/store.db", control_uri=control_uri)

    assert len(MessagesAlone.opened) == (2 if control == "alone" else 1)
    for store in MessagesAlone.opened:
        with pytest.raises(StorageUnavailable):
            await store.ping()


def test_a_package_does_not_replace_a_driver_of_ours() -> None:
    assert not isinstance(driver_of("sqlite:///a"), Trial)


@pytest.mark.parametrize(
    ("scheme", "reason"),
    [
        ("nothing", "No module named 'no_such_module'"),
        ("other", "is no subclass of zaqar_notify.storage.driver.Driver"),
        ("absent", "names no store for which there is a driver"),
    ],
)
def test_a_driver_that_can_not_be_used_stops_the_start(scheme: str, reason: str) -> None:
    with pytest.raises(StartRefused, match=reason):
        driver_of(f"{scheme}://user:hush@host")
