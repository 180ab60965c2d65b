"""The commands that stores send to MongoDB."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import AsyncMongoClient, monitoring

from zaqar_notify.storage.mongodb import deployment

Command = dict[str, Any]


class Commands(monitoring.CommandListener):
    """All that was sent since it began to listen."""

    def __init__(self) -> None:
        self.sent: list[Command] = []

    def listen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hear the stores that are opened from now on."""
        original: Any = AsyncMongoClient

        def client(*arguments: Any, **options: Any) -> Any:
            return original(*arguments, event_listeners=[self], **options)

        monkeypatch.setattr(deployment, "AsyncMongoClient", client)

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Not of interest."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Not of interest."""
