"""Which operations the tests that pass have called, and with which client.

The application of a test's own process is watched. A service in another process is asked for its counts of requests, before and after each
test of a client that no one here wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import requests

WEBSOCKET = "WebSocket"
"""Stands for the method of an action."""

_COUNT = re.compile(
    r"^zaqar_notify_(?:requests|socket_frames)_total\{(?P<labels>.*)\} (?P<count>\S+)$", re.M
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Noted(NamedTuple):
    """An answer to an operation. `client` is empty, unless a client that no one here wrote has called it."""

    client: str
    method: str
    path: str
    status: int


class Notes(msgspec.Struct):
    """What a run leaves: the answers, and which tests passed of those that the page names."""

    answers: set[Noted] = msgspec.field(default_factory=set)
    passed: set[str] = msgspec.field(default_factory=set)

    def add(self, other: Notes) -> None:
        self.answers |= other.answers
        self.passed |= other.passed

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.plain(), indent=0))

    def plain(self) -> dict[str, object]:
        return {"answers": sorted(map(list, self.answers)), "passed": sorted(self.passed)}


def notes_of(plain: object) -> Notes:
    return msgspec.convert(plain, Notes)


def read_notes(files: Iterable[Path]) -> Notes:
    notes = Notes()
    for file in files:
        notes.add(msgspec.json.decode(file.read_bytes(), type=Notes))
    return notes


class Followed:
    """Services in processes of their own, and what they had counted when they were last asked.

    They are asked while a test of a client runs: `begin` and `taken` enclose it.
    """

    def __init__(self) -> None:
        self._counts: dict[str, dict[Noted, float]] = {}
        self._client: str | None = None
        self._answers: set[Noted] = set()

    def start(self, url: str) -> None:
        """The service answers; what it was asked until now does not count."""
        self._counts[url] = {}
        if self._client is not None:
            self._grown(url, "")

    def end(self, url: str) -> None:
        """The service is about to stop."""
        if self._client is not None:
            self._answers |= self._grown(url, self._client)
        self.forget(url)

    def forget(self, url: str) -> None:
        """The service is gone."""
        self._counts.pop(url, None)

    def begin(self, client: str | None) -> None:
        """Note answers to this client from now on; None: to no one."""
        self._client = client
        self.taken()

    def taken(self) -> set[Noted]:
        """The answers since the last call."""
        if self._client is not None:
            for url in self._counts:
                self._answers |= self._grown(url, self._client)
        answers, self._answers = self._answers, set()
        return answers

    def _grown(self, url: str, client: str) -> set[Noted]:
        former = self._counts.get(url, {})
        counts = former
        with suppress(requests.RequestException):
            counts = _counts(requests.get(f"{url}/metrics", timeout=10).text)
        if url in self._counts:
            self._counts[url] = counts
        grown = (noted for noted, count in counts.items() if count > former.get(noted, 0))
        return {noted._replace(client=client) for noted in grown}


def _counts(text: str) -> dict[Noted, float]:
    found: dict[Noted, float] = {}
    for match in _COUNT.finditer(text):
        labels = dict(_LABEL.findall(match["labels"]))
        method = labels.get("method", WEBSOCKET)
        path = labels.get("route") or labels["action"]
        found[Noted("", method, path, int(labels["status"]))] = float(match["count"])
    return found


FOLLOWED = Followed()
