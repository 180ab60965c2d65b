"""The version of the stored data: messages that all drivers share."""

from __future__ import annotations

import logging

from zaqar_notify.errors import StartRefused

logger = logging.getLogger(__name__)

MIGRATION = "zaqar-notify migration"
"""The comment on a step's commands to MongoDB. They go to every shard, and may take their time."""


def refuse_later(store: str, version: int, known: int) -> None:
    """Refuse a store that a later release has migrated.

    Raises:
        StartRefused: The store's version is later than `known`.
    """
    if version > known:
        raise StartRefused(
            f"{store} is of schema version {version}; this release knows version {known}: install the "
            "release that wrote it, or a later one"
        )


def log_migrated(store: str, version: int) -> None:
    """Say that the store has taken the step to `version`."""
    logger.info(
        "The store was migrated",
        extra={"action": "store_migrated", "store": store, "version": version},
    )
