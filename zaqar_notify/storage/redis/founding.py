"""The decisions of the making of a store: the version of its form, its identity,
and the number of hash tags."""

from __future__ import annotations

from zaqar_notify.clock import new_id
from zaqar_notify.errors import StartRefused
from zaqar_notify.storage.redis.connection import Connection, Place
from zaqar_notify.storage.redis.keys import Keys
from zaqar_notify.storage.versions import log_migrated, refuse_later

VERSION = 2
"""Since version 2, attributes of a message may stand before its body. Earlier releases would show them as a part of
it, so they must refuse the store; there is nothing to change in it."""
_RAISE_VERSION = """
local known = tonumber(redis.call('HGET', KEYS[1], 'version') or ARGV[1])
if known < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'version', ARGV[1]) end
return known
"""
"""Processes of several releases may start at once."""

TAGS = 1
"""Of a new store whose URI says nothing: all of it is on one server."""


async def founded(connection: Connection, place: Place, *, prepare: bool) -> Keys:
    """The keys of the store, which is made if it is new and `prepare` says so.

    Raises:
        StartRefused: It has another number of tags than the URI says, or is a later release's.
        StorageUnavailable: Redis gave no answer.
    """
    store = Keys(place.prefix, 1).store
    if prepare:
        await connection.call("HSETNX", store, "tags", place.tags or TAGS)
        await connection.call("HSETNX", store, "version", VERSION)
        await connection.call("HSETNX", store, "identity", new_id())
    tags, version = await connection.call("HMGET", store, "tags", "version")
    name, stored = f"the store {place.prefix}", int(version or VERSION)
    refuse_later(name, stored, VERSION)
    if prepare and stored < VERSION:
        await connection.call("EVAL", _RAISE_VERSION, 1, store, VERSION)
        log_migrated(name, VERSION)
    known = int(tags or place.tags or TAGS)
    if place.tags not in (None, known):
        raise StartRefused(
            f"ZAQAR_STORE_URI has tags={place.tags}, and the store was made with {known}, which can't be changed: "
            f"write tags={known}, or leave it out"
        )
    return Keys(place.prefix, known)
