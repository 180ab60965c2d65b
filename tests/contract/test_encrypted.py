"""The questions about messages and claims, asked of a store that encrypts every queue."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from tests.contract.raw import stored_bodies
from tests.contract.test_claims import *  # noqa: F403
from tests.contract.test_dead_letters import *  # noqa: F403
from tests.contract.test_forgotten_subscriptions import *  # noqa: F403
from tests.contract.test_messages import *  # noqa: F403
from tests.contract.test_posts_with_jobs import *  # type: ignore[assignment]  # noqa: F403
from tests.contract.test_subscriptions import *  # noqa: F403
from zaqar_notify.rules.encryption import Keyring, is_envelope
from zaqar_notify.storage import sealing
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

KEYS = Keyring({"k1": os.urandom(32)})


@pytest.fixture
async def storage(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Storage]:
    """At the end of the test, no clear body is in it."""
    monkeypatch.setattr(sealing, "is_encrypted", lambda ref, rules: True)
    storage = await open_storage(store_uri, keys=KEYS)
    yield storage
    assert all(is_envelope(body) for body in await stored_bodies(storage.store))
    await storage.close()
