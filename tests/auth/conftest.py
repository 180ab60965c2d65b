"""A cloud: the real Keystone, with the service's own user in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.cloud import Cloud


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    cloud = Cloud()
    yield cloud
    await cloud.close()
