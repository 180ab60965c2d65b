"""From this version on, queues may be on other pools. Earlier releases would look for all of them here, so they must
refuse the database; there is nothing to change in it."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase


async def migrate(database: AsyncDatabase[dict[str, Any]]) -> None:
    """Change nothing."""
