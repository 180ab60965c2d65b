"""Steps that change documents of an earlier release.

The document of collection `schema` says which version the database has. Of the processes that start
on an earlier one, the one that gets the lease noted there takes the steps, and the others wait. When
the holder of the lease dies, the next takes over, so a step may be begun more than once. How to add one:
docs/add-a-driver.md.

Version 1 has no step: collections and indexes come as they are asked for.

    m0002_secret_rotations    subscriptions keep each late rotation of their secret
    m0003_planes              records apart from the heads, which posts and claims read
    m0004_encryption          bodies and options may be encrypted; it changes nothing
    m0005_pools               queues may be on other pools; it changes nothing
    m0006_identity            the database is known for the same under another URI
    m0007_attributes          attributes may stand before bodies; it changes nothing
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pymongo
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from zaqar_notify.clock import new_id
from zaqar_notify.storage.mongodb.migrations import (
    m0002_secret_rotations,
    m0003_planes,
    m0004_encryption,
    m0005_pools,
    m0006_identity,
    m0007_attributes,
)
from zaqar_notify.storage.versions import log_migrated, refuse_later

Document: TypeAlias = dict[str, Any]
Step: TypeAlias = Callable[[AsyncDatabase[Document]], Awaitable[None]]
"""Changes documents from the version before to its own. It may run twice, and beside itself."""

MARK = "zaqar-notify"
"""The `_id` of the document with the version."""

LEASE_SECONDS = 30.0
"""After which a process that migrates and says nothing counts as dead."""
LOOK_SECONDS = 0.2
"""Between looks of processes that wait."""


async def _first(_: AsyncDatabase[Document]) -> None:
    """There is nothing to change yet."""


STEPS: tuple[Step, ...] = (
    _first,
    m0002_secret_rotations.migrate,
    m0003_planes.migrate,
    m0004_encryption.migrate,
    m0005_pools.migrate,
    m0006_identity.migrate,
    m0007_attributes.migrate,
)
"""In their order: the first one makes version 1."""

SCHEMA_VERSION = len(STEPS)


async def read_version(schema: AsyncCollection[Document]) -> int:
    """The database's version; 0: none was ever noted.

    Raises:
        StartRefused: It is later than this release's.
    """
    stored = await schema.find_one({"_id": MARK})
    version = 0 if stored is None else int(stored["version"])
    refuse_later(f"The database {schema.database.name}", version, len(STEPS))
    return version


async def migrate(schema: AsyncCollection[Document]) -> None:
    """Bring the database to this release's version, or wait until another process has.

    Raises:
        StartRefused: It is of a later version.
    """
    name = new_id()
    while (version := await read_version(schema)) < len(STEPS):
        if await _lease(schema, version, name):
            await _take(schema, version, name)
        else:
            await asyncio.sleep(LOOK_SECONDS)


async def _lease(schema: AsyncCollection[Document], version: int, name: str) -> bool:
    """Become the process that migrates, unless another one is."""
    if version == 0:
        with contextlib.suppress(DuplicateKeyError):
            await schema.update_one({"_id": MARK}, {"$setOnInsert": {"version": 0}}, upsert=True)
    result = await schema.update_one(
        {
            "_id": MARK,
            "version": version,
            "$expr": {"$lte": [{"$ifNull": ["$migrating.until", None]}, "$$NOW"]},
        },
        _until(name),
    )
    return result.matched_count == 1


def _until(name: str) -> list[Document]:
    """The update that holds the lease from now on for its length."""
    until = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}
    return [{"$set": {"migrating": {"by": name, "until": until}}}]


async def _take(schema: AsyncCollection[Document], version: int, name: str) -> None:
    """Take the step from `version` to the next, and note it if the lease is still ours."""
    # No deadline of the client's: a step may rewrite millions of documents.
    with pymongo.timeout(None):
        stepping = asyncio.ensure_future(STEPS[version](schema.database))
    renewing = asyncio.create_task(_renew(schema, name))
    try:
        await asyncio.wait({stepping, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not stepping.done():
            renewing.result()
            return  # The lease was lost: another process has begun anew.
        stepping.result()
    except Exception:
        await _end(schema, version, name, version)
        raise
    finally:
        stepping.cancel()
        renewing.cancel()
        await asyncio.wait({stepping, renewing})
    is_noted = await _end(schema, version, name, version + 1)
    if is_noted and version:
        log_migrated(schema.database.name, version + 1)


async def _end(schema: AsyncCollection[Document], version: int, name: str, now: int) -> bool:
    """Note the version that the database has `now`, and give back the lease; False: it was lost."""
    result = await schema.update_one(
        {"_id": MARK, "version": version, "migrating.by": name},
        {"$set": {"version": now}, "$unset": {"migrating": ""}},
    )
    return result.matched_count == 1


async def _renew(schema: AsyncCollection[Document], name: str) -> None:
    """Prolong the lease for as long as it is ours."""
    held = {"_id": MARK, "migrating.by": name}
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        result = await schema.update_one(held, _until(name))
        if not result.matched_count:
            return
