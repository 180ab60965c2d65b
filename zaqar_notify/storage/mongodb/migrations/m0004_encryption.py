"""From this version on, bodies and options may be encrypted. Earlier releases would show them as they are, so
they must refuse the database; there is nothing to change in it."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase


async def migrate(database: AsyncDatabase[dict[str, Any]]) -> None:
    """Change nothing."""
