"""Message filters that tests tell what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

import pytest
from msgspec.structs import replace

from tests.packages import install
from zaqar_notify.delivery.filters import ENTRY_POINTS, Body, Filter, Posting

Act: TypeAlias = Callable[[Posting], Awaitable[Posting]]


class First(Filter):
    """Does what the test says, and notes what it sees."""

    act: ClassVar[Act | None] = None
    seen: ClassVar[list[Posting]] = []

    async def filter(self, posting: Posting) -> Posting:
        self.seen.append(posting)
        return posting if self.act is None else await type(self).act(posting)  # type: ignore[misc]


class Second(First):
    """Another one."""


def install_filters(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install `first` and `second`, which let all posts pass."""
    named = {"first": f"{__name__}:First", "second": f"{__name__}:Second"}
    site.mkdir()
    install(site, ENTRY_POINTS, named, monkeypatch=monkeypatch)
    for kind in (First, Second):
        monkeypatch.setattr(kind, "act", None)
        monkeypatch.setattr(kind, "seen", [])


def adding(text: bytes) -> Act:
    """Writes each body anew: an array of it and of this JSON text."""

    async def act(posting: Posting) -> Posting:
        bodies = tuple(replace(one, text=b"[%b,%b]" % (one.text, text)) for one in posting.messages)
        return replace(posting, messages=bodies)

    return act


def routing(queue: str) -> Act:
    async def act(posting: Posting) -> Posting:
        return replace(posting, queue=queue)

    return act


def raising(error: Exception) -> Act:
    async def act(posting: Posting) -> Posting:
        raise error

    return act


def making(made: object) -> Act:
    async def act(posting: Posting) -> Posting:
        return made  # type: ignore[return-value]

    return act


def with_body(**fields: object) -> Act:
    async def act(posting: Posting) -> Posting:
        return replace(posting, messages=(Body(**{"text": b"1", **fields}),))  # type: ignore[arg-type]

    return act
