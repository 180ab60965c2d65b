"""From this version on, attributes of a message may stand before its body. Earlier releases would show them as a part of
it, so they must refuse the database; there is nothing to change in it."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase


async def migrate(database: AsyncDatabase[dict[str, Any]]) -> None:
    """Change nothing."""
