"""Tenant tokens: found by their digests, listed in order of creation, and gone when they were removed."""

from __future__ import annotations

import hashlib
from datetime import datetime

import pytest

from tests.clock import START
from tests.contract.steps import ILL_FORMED_IDS, after
from zaqar_notify.clock import new_id
from zaqar_notify.models import Scope, Token
from zaqar_notify.storage.planes import Storage


def token(
    *,
    name: str = "",
    project: str | None = "p1",
    scope: Scope = "member",
    expires_at: datetime | None = None,
) -> Token:
    token_id = name or new_id()
    digest = hashlib.sha256(token_id.encode()).digest()
    return Token(token_id, digest, project, scope, None, "", START, expires_at)


async def create(storage: Storage, *tokens: Token) -> None:
    for each in tokens:
        await storage.control.tokens.create(each)


async def listed(
    storage: Storage, project: str | None, *, marker: str | None = None, limit: int = 100
) -> list[str]:
    found = await storage.control.tokens.list(project, marker=marker, limit=limit)
    return [each.id for each in found]


@pytest.mark.parametrize("project", ["p1", None])
async def test_a_token_is_read_back_whole(storage: Storage, project: str | None) -> None:
    stored = Token(
        *("id", b"\x00\xff" * 16, project, "operator", "orders.*", "Jürgen's", START),
        expires_at=after(60),
        last_used_at=after(1),
    )

    await create(storage, stored)

    assert await storage.control.tokens.find(stored.digest) == stored
    assert await storage.control.tokens.get("id") == stored
    assert await storage.control.tokens.list(None, marker=None, limit=1) == [stored]


@pytest.mark.parametrize("unknown", ILL_FORMED_IDS)
async def test_an_unknown_token_is_found_by_nothing(storage: Storage, unknown: str) -> None:
    await create(storage, token())

    assert await storage.control.tokens.find(unknown.encode()) is None
    assert await storage.control.tokens.get(unknown) is None
    await storage.control.tokens.remove(unknown)


async def test_tokens_are_listed_by_id_a_page_at_a_time(storage: Storage) -> None:
    await create(storage, *(token(name=name) for name in "bdac"))
    await create(storage, token(name="bb", project="p2"), token(name="z", project=None))

    assert await listed(storage, "p1") == ["a", "b", "c", "d"]
    assert await listed(storage, "p1", limit=2) == ["a", "b"]
    assert await listed(storage, "p1", marker="b", limit=2) == ["c", "d"]
    assert await listed(storage, "p1", marker="bb") == ["c", "d"]
    assert await listed(storage, None) == ["a", "b", "bb", "c", "d", "z"]
    assert await listed(storage, "p3") == []


async def test_tokens_are_counted_by_project(storage: Storage) -> None:
    await create(storage, token(), token(expires_at=START), token(project="p2"))

    assert await storage.control.tokens.count("p1") == 2
    assert await storage.control.tokens.count("p3") == 0


async def test_a_removed_token_is_gone(storage: Storage) -> None:
    gone, left = token(), token()
    await create(storage, gone, left)

    await storage.control.tokens.remove(gone.id)

    assert await storage.control.tokens.find(gone.digest) is None
    assert await listed(storage, "p1") == [left.id]


async def test_those_that_have_expired_are_removed_and_no_others(storage: Storage) -> None:
    await create(storage, token(name="a", expires_at=after(60)), token(name="b"))

    await storage.control.tokens.remove_expired(now=after(59.999))
    assert await listed(storage, None) == ["a", "b"]

    await storage.control.tokens.remove_expired(now=after(60))
    assert await listed(storage, None) == ["b"]


async def test_of_several_processes_one_notes_a_use(storage: Storage) -> None:
    used = token()
    await create(storage, used)

    await storage.control.tokens.note_use(used.id, now=after(1), last=None)
    await storage.control.tokens.note_use(used.id, now=after(2), last=None)
    assert await last_use(storage, used) == after(1)

    await storage.control.tokens.note_use(used.id, now=after(61), last=after(1))
    assert await last_use(storage, used) == after(61)


async def test_a_use_of_a_removed_token_brings_nothing_back(storage: Storage) -> None:
    await storage.control.tokens.note_use("gone", now=START, last=None)

    assert await listed(storage, None) == []


async def last_use(storage: Storage, used: Token) -> datetime | None:
    found = await storage.control.tokens.get(used.id)
    return None if found is None else found.last_used_at
