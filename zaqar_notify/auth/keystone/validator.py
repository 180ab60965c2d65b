"""Keystone's tokens: from a token to its caller.

Source: Identity API v3, "Validate and show information for token"; keystonemiddleware's `auth_token` for the
handling of `X-Service-Token`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Self

import msgspec

from zaqar_notify.auth.callers import Caller
from zaqar_notify.auth.keystone.account import Account
from zaqar_notify.auth.keystone.connection import Instant, KeystoneConnection
from zaqar_notify.auth.keystone.own_token import OwnToken
from zaqar_notify.auth.keystone.targets import Targets
from zaqar_notify.auth.keystone.trusts import Trusts
from zaqar_notify.auth.remembered import Remembered
from zaqar_notify.errors import KeystoneUnavailable
from zaqar_notify.models import JsonObject

UNKNOWN_SECONDS = 5.0
"""How long a token that Keystone does not know is refused without asking."""
MOST_KNOWN = 10_000

_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")

logger = logging.getLogger(__name__)


class Holder(msgspec.Struct, frozen=True):
    """The caller that a token stands for until it expires; None: the token is for no project."""

    caller: Caller | None
    roles: frozenset[str]
    expires_at: datetime


class Keystone:
    """Validates tokens, and remembers those that it has seen by their SHA-256. Belongs to one event loop."""

    def __init__(
        self,
        account: Account,
        *,
        cache_seconds: float,
        timeout_seconds: float,
        most_waiting: int | None = None,
        trust_targets: Sequence[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`most_waiting` requests at once wait for Keystone to tell their callers; None: as many as come."""
        self._account = account
        self._now = now
        # For a token of our own, and then for the answer.
        self._patience_seconds = 2 * timeout_seconds
        self._connection = KeystoneConnection(account, timeout_seconds=timeout_seconds)
        self._own_token = OwnToken(self._connection, account.login)
        targets = Targets(self._connection, self._own_token, allowed=trust_targets)
        self.trusts = Trusts(account, self._connection, self._own_token, targets=targets)
        self._known: Remembered[Asked, Holder] = Remembered(
            self._validate,
            seconds=cache_seconds,
            unknown_seconds=UNKNOWN_SECONDS,
            most=MOST_KNOWN,
            most_waiting=most_waiting,
        )

    @property
    def url(self) -> str:
        return self._account.url

    @property
    def challenge(self) -> str:
        """The value of `WWW-Authenticate` that asks for Keystone's tokens."""
        return f'Keystone uri="{self._account.public_url}"'

    async def caller(self, token: str, service_token: str | None = None) -> Caller | None:
        """The caller; None: the token is not valid, or is for no project.

        Args:
            service_token: The token of a service that passes on its user's. The user's may have expired meanwhile.

        Raises:
            KeystoneUnavailable: Keystone gives no answer, and has not validated the token before.
            Overloaded: Too many requests with new tokens wait.
        """
        if not _TOKEN.fullmatch(token):
            return None
        if service_token is None:
            # The usual request is spared the time-out, which costs as much as a tenth of a post.
            holder = self._known.fresh(Asked(token))
            if holder is not None and self._now() < holder.expires_at:
                return holder.caller
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await self._caller(token, service_token)
        except TimeoutError as error:
            raise KeystoneUnavailable("Keystone gives no answer in time") from error

    async def own_roles(self) -> frozenset[str]:
        """The roles of the service's own account.

        Raises:
            KeystoneUnavailable: Keystone gives no answer, or refuses the account.
        """
        own = await self._own_token.get()
        holder = await self._holder(own.token)
        return frozenset() if holder is None else holder.roles

    async def close(self) -> None:
        """Idempotent."""
        await self._connection.close()

    async def _caller(self, token: str, service_token: str | None) -> Caller | None:
        may_be_expired = False
        if service_token is not None:
            service = await self._holder(service_token)
            if service is None:
                return None
            may_be_expired = not self._account.service_roles.isdisjoint(service.roles)
            if self._account.is_service_role_required and not may_be_expired:
                return None
        holder = await self._holder(token)
        if holder is None and may_be_expired:
            holder = await self._holder(token, may_be_expired=True)
        return None if holder is None else holder.caller

    async def _holder(self, token: str, *, may_be_expired: bool = False) -> Holder | None:
        if not _TOKEN.fullmatch(token):
            return None
        holder = await self._known.get(Asked(token, may_be_expired=may_be_expired))
        if holder is None or (not may_be_expired and self._now() >= holder.expires_at):
            return None
        return holder

    async def _validate(self, asked: Asked) -> Holder | None:
        """Keystone's answer; None: it does not know the token, or the token is not valid any more."""
        path = f"/auth/tokens?nocatalog{'&allow_expired=1' if asked.may_be_expired else ''}"
        token, status = asked.take(), 0
        # Once more with a new token of our own, if Keystone does not take the present one.
        for _ in range(2):
            own = (await self._own_token.get()).token
            answer = await self._connection.send("GET", path, token=own, subject=token)
            status = answer.status
            if status == HTTPStatus.OK:
                return _holder_in(answer.document)
            if status == HTTPStatus.NOT_FOUND and answer.is_refusal:
                return None
            if status != HTTPStatus.UNAUTHORIZED:
                break
            self._own_token.forget(own)
        facts = {"action": "keystone_refuses_us", "status": status}
        logger.error("Keystone does not validate tokens for the service's account", extra=facts)
        raise KeystoneUnavailable(f"Keystone does not validate tokens: HTTP {status}")


class Asked(bytes):
    """A token that is looked for: its digest. The text is gone once Keystone was asked for it."""

    may_be_expired: bool
    _text: str

    def __new__(cls, text: str, *, may_be_expired: bool = False) -> Self:
        digest = hashlib.sha256(text.encode("ascii")).digest()
        asked = super().__new__(cls, digest + b"+" if may_be_expired else digest)
        asked.may_be_expired, asked._text = may_be_expired, text
        return asked

    def take(self) -> str:
        text, self._text = self._text, ""
        return text


def _holder_in(document: JsonObject) -> Holder:
    try:
        token = msgspec.convert(document.get("token"), _Token)
    except msgspec.ValidationError as error:
        raise KeystoneUnavailable("Keystone's answer about a token is not whole") from error
    roles = frozenset(role.name for role in token.roles)
    caller = None
    if token.project is not None:
        caller = Caller(
            token.project.id,
            user=token.user.id,
            roles=roles,
            how="keystone",
            expires_at=token.expires_at,
        )
    return Holder(caller, roles, token.expires_at)


class _Named(msgspec.Struct):
    # An empty project would be the one of internal queues.
    id: Annotated[str, msgspec.Meta(min_length=1)]


class _Role(msgspec.Struct):
    name: str


class _Token(msgspec.Struct):
    expires_at: Instant
    user: _Named
    project: _Named | None = None
    roles: list[_Role] = []
