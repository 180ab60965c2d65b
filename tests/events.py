"""Reads a stream of events as browsers do (HTML, "Interpreting an event stream")."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    kind: str
    data: str
    last_id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def body(self) -> Any:
        """The body of the message that the event is."""
        return self.json["body"]


@dataclass
class Reader:
    """Takes the bytes as they come; `events` are those that are complete."""

    events: list[Event] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    retry_ms: int | None = None
    last_id: str = ""
    _unread: bytes = b""
    _kind: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._line(line.decode())

    def _line(self, line: str) -> None:
        if not line:
            if self._data:
                kind = self._kind or "message"
                self.events.append(Event(kind, "\n".join(self._data), self.last_id))
            self._kind, self._data = "", []
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "":
            self.comments.append(value)
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id":
            self.last_id = value
        elif name == "retry":
            self.retry_ms = int(value)
        else:
            raise AssertionError(f"A browser would ignore {line!r}")
