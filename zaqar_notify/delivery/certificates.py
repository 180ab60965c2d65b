"""The key that signs SNS envelopes: made once, kept on an internal queue, and so the same in all processes.

1. A process that needs the key reads the queue. The first record that it can decrypt counts.
2. If there is none, it makes a key, appends it, and reads the queue again. If two processes did so at once, both find
   the same first record.

The private key is encrypted under a key that is derived from `ZAQAR_WEBHOOK_SECRET`. After a change of that secret the
records of before can't be decrypted, and a new key is made; their certificates are served on.
"""

from __future__ import annotations

import asyncio
import hmac
import time

import msgspec

from zaqar_notify.clock import Clock
from zaqar_notify.errors import (
    CannotDecrypt,
    CertificateDoesNotExist,
    StorageUnavailable,
    WebhooksNotSigned,
)
from zaqar_notify.models import INTERNAL_PROJECT, NewMessage
from zaqar_notify.rules.certificates import (
    LIFE_DAYS,
    SigningKey,
    make_signing_key,
    read_signing_key,
)
from zaqar_notify.rules.encryption import Keyring, Kind
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import MessageStore, ReadyPost
from zaqar_notify.storage.internal import CERTIFICATES_REF, DEFAULT_POOL
from zaqar_notify.storage.planes import Storage

KEEP_SECONDS = 300.0
"""A key that was read serves so long. A store that was emptied meanwhile gets a new one then."""
LOOK_SECONDS = 1.0
"""How often names that are not known are looked for, at most: anyone may ask for them."""

_LABEL = b"zaqar-notify signing key"
_KEY_ID = "webhook-secret"
_PAGE = 100
_KEPT_SECONDS = LIFE_DAYS // 2 * 86400


class _Record(msgspec.Struct, frozen=True):
    """A key as it is stored."""

    version: int
    name: str
    certificate: bytes
    private: bytes
    """Encrypted."""


_records = msgspec.json.Decoder(_Record)


class Certificates:
    """The signing key of this installation, and the certificates of it and of those before it."""

    def __init__(self, storage: Storage, settings: Settings, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._master = settings.webhook_secret.get_secret_value()
        self._lock = asyncio.Lock()
        self._key: SigningKey | None = None
        self._fresh_until = 0.0
        self._looking = asyncio.Lock()
        self._by_name: dict[str, bytes] = {}
        self._looked_at = float("-inf")

    async def signing_key(self) -> SigningKey:
        """The key that signs now; the first call makes it, if no process has.

        Raises:
            WebhooksNotSigned: There is no master key.
            StorageUnavailable: No answer came.
        """
        if not self._master:
            raise WebhooksNotSigned
        if self._key is not None and time.monotonic() < self._fresh_until:
            return self._key
        async with self._lock:
            if self._key is None or time.monotonic() >= self._fresh_until:
                await self._renew()
        assert self._key is not None  # noqa: S101
        return self._key

    async def certificate(self, name: str) -> bytes:
        """The certificate with this name, a PEM text.

        Raises:
            CertificateDoesNotExist: No key of this installation has it.
            StorageUnavailable: No answer came.
        """
        if name not in self._by_name:
            async with self._looking:
                if time.monotonic() >= self._looked_at + LOOK_SECONDS:
                    found = await self._stored()
                    self._looked_at = time.monotonic()
                    self._by_name |= {each.name: each.certificate for each in found}
        if name not in self._by_name:
            raise CertificateDoesNotExist(name)
        return self._by_name[name]

    async def _renew(self) -> None:
        try:
            self._key = await self._first() or await self._add()
        except StorageUnavailable:
            if self._key is None:
                raise
        self._fresh_until = time.monotonic() + KEEP_SECONDS

    async def _first(self) -> SigningKey | None:
        for record in await self._stored():
            try:
                private = self._keys.open(Kind.SIGNING_KEY, INTERNAL_PROJECT, record.private)
            except CannotDecrypt:
                continue
            return read_signing_key(record.name, record.certificate, private)
        return None

    async def _add(self) -> SigningKey:
        """Store a key, the one of before if there was one, and return that which counts."""
        key = self._key
        if key is None:
            key = await asyncio.to_thread(make_signing_key, self._clock.host_now())
        sealed = self._keys.seal(Kind.SIGNING_KEY, INTERNAL_PROJECT, key.private_bytes())
        record = msgspec.json.encode(_Record(1, key.name, key.certificate, sealed))
        post = ReadyPost([NewMessage(record, _KEPT_SECONDS)], client_id="")
        await self._store.messages.post(CERTIFICATES_REF, post, now=self._clock.now())
        return await self._first() or key

    async def _stored(self) -> list[_Record]:
        """The records, oldest first: one for each master key that there was."""
        found: list[_Record] = []
        marker: str | None = None
        while True:
            page = await self._store.messages.page(
                CERTIFICATES_REF, marker=marker, limit=_PAGE, now=self._clock.now()
            )
            found += [_records.decode(message.body) for message in page.messages]
            marker = page.marker
            if len(page.messages) < _PAGE:
                return found

    @property
    def _store(self) -> MessageStore:
        return self._storage.pools[DEFAULT_POOL]

    @property
    def _keys(self) -> Keyring:
        """That encrypts the private key at rest."""
        return Keyring({_KEY_ID: hmac.digest(self._master.encode(), _LABEL, "sha256")})
