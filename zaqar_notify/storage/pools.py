"""The contract of a store of pools and flavors; a part of the control store.

They are few and change seldom, and the rules span several of them: URIs are unique, and a flavor's pools are alike.
So they are one document, each change replaces it whole, and a driver knows nothing of what is in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from zaqar_notify.errors import CannotDecrypt
from zaqar_notify.models import INTERNAL_PROJECT, FlavorRef, Pool, undisclosed
from zaqar_notify.rules.encryption import NO_KEYS, Keyring, Kind, is_envelope, read_envelope
from zaqar_notify.storage.rekeying import Encrypted, Step
from zaqar_notify.storage.sealing import say_locked
from zaqar_notify.storage.values import from_json, to_json


class Registered(msgspec.Struct, frozen=True):
    """All registered pools, by name, and all flavors that were made."""

    pools: Mapping[str, Pool] = {}
    flavors: frozenset[FlavorRef] = frozenset()


class Document(msgspec.Struct, frozen=True):
    """The stored bytes; revision 0: none were ever stored."""

    revision: int
    content: bytes


class Pools(ABC):
    """Pools and flavors. URIs and options are encrypted, given a key."""

    def __init__(self, keys: Keyring = NO_KEYS) -> None:
        self._keys = keys

    @abstractmethod
    async def load(self) -> Document:
        """The stored document, as it will stay: no fail-over undoes it."""

    @abstractmethod
    async def replace(self, content: bytes, *, revision: int) -> bool:
        """Store the content, and raise the revision, if it is still this one; whether it was."""

    async def read(self) -> Registered:
        """All pools and flavors."""
        return self._opened(_decode((await self.load()).content))

    async def change(self, change: Callable[[Registered], Registered]) -> Registered:
        """Replace them by `change(them)`, atomically, and return what is stored then.

        `change` is pure; it may be called again when another writer came between. An error that it raises ends
        the change with nothing stored.
        """
        while True:
            document = await self.load()
            stored = _decode(document.content)
            before = self._opened(stored)
            after = change(before)
            if after == before:
                return before
            content = _encode(self._sealed(after, before, stored))
            if await self.replace(content, revision=document.revision):
                return after

    def _opened(self, stored: _Stored) -> Registered:
        pools = {each.name: _opened(each, self._keys) for each in stored.pools}
        return Registered(pools, frozenset(stored.flavors))

    def _sealed(self, after: Registered, before: Registered, stored: _Stored) -> _Stored:
        """A pool that can't be decrypted keeps what is stored of it."""
        former = {each.name: each for each in stored.pools}
        pools = []
        for name, pool in sorted(after.pools.items()):
            present = _secret_of(pool)
            if name in former and present == _secret_of(before.pools[name]):
                secret = former[name].secret
            else:
                secret = _sealed(name, present, self._keys)
            pools.append(
                _StoredPool(
                    name,
                    secret,
                    pool.weight,
                    pool.flavor,
                    pool.registered_at,
                    pool.identity,
                    pool.is_leaving,
                )
            )
        return _Stored(pools, sorted(after.flavors))


class EncryptedPools(Encrypted):
    """Those of the pools that are encrypted."""

    def __init__(self, pools: Pools, keys: Keyring) -> None:
        self._pools = pools
        self._keys = keys

    async def key_ids(self) -> Sequence[str]:
        return key_ids_of((await self._pools.load()).content)

    async def reseal(self, key_id: str, *, after: Any | None, limit: int) -> Step:
        while True:
            document = await self._pools.load()
            stored = _decode(document.content)
            pools = [self._resealed(each, key_id) for each in stored.pools]
            left = sum(each.key_id == key_id for each in pools)
            done = sum(each.key_id == key_id for each in stored.pools) - left
            content = _encode(_Stored(pools, stored.flavors))
            if not done or await self._pools.replace(content, revision=document.revision):
                return Step(done, left, None)

    def _resealed(self, pool: _StoredPool, key_id: str) -> _StoredPool:
        if pool.key_id != key_id:
            return pool
        try:
            secret = self._keys.resealed(Kind.POOL, pool.secret)
        except CannotDecrypt:
            return pool
        return msgspec.structs.replace(pool, secret=secret)


def key_ids_of(content: bytes) -> Sequence[str]:
    """The ids of the keys under which some pools of a stored document are."""
    return sorted({each.key_id for each in _decode(content).pools if each.key_id is not None})


class _StoredPool(msgspec.Struct, frozen=True):
    """`secret` is JSON text with URI and options, or its envelope. The name is in it, so that no URI can be put
    in the place of another."""

    name: str
    secret: bytes
    weight: int
    flavor: FlavorRef | None
    registered_at: datetime
    identity: str = ""
    is_leaving: bool = False

    __repr__ = undisclosed

    @property
    def key_id(self) -> str | None:
        return read_envelope(self.secret).key_id if is_envelope(self.secret) else None


class _Stored(msgspec.Struct, frozen=True):
    pools: Sequence[_StoredPool] = ()
    flavors: Sequence[FlavorRef] = ()


def _decode(content: bytes) -> _Stored:
    return msgspec.json.decode(content, type=_Stored) if content else _Stored()


def _encode(stored: _Stored) -> bytes:
    return msgspec.json.encode(stored)


def _secret_of(pool: Pool) -> tuple[object, object]:
    return pool.uri, pool.options


def _sealed(name: str, secret: tuple[object, object], keys: Keyring) -> bytes:
    uri, options = secret
    content = to_json({"name": name, "uri": uri, "options": options}).encode()
    return keys.seal(Kind.POOL, INTERNAL_PROJECT, content) if keys else content


def _opened(stored: _StoredPool, keys: Keyring) -> Pool:
    try:
        secret = _decrypted(stored, keys)
    except CannotDecrypt as error:
        say_locked(error)
        secret = {"uri": None, "options": None}
    return Pool(
        stored.name,
        secret["uri"],
        stored.weight,
        secret["options"],
        stored.flavor,
        stored.registered_at,
        stored.identity,
        stored.is_leaving,
    )


def _decrypted(stored: _StoredPool, keys: Keyring) -> dict[str, Any]:
    if not is_envelope(stored.secret):
        return from_json(stored.secret.decode())
    secret = from_json(keys.open(Kind.POOL, INTERNAL_PROJECT, stored.secret).decode())
    if secret["name"] != stored.name:
        raise CannotDecrypt("", is_known=True)
    return secret
