"""Tokens that the service gets from Keystone by its own account."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from zaqar_notify.auth.keystone.connection import Answer, Instant, KeystoneConnection
from zaqar_notify.auth.keystone.refusals import LoginRefused
from zaqar_notify.clock import running_seconds
from zaqar_notify.errors import KeystoneUnavailable
from zaqar_notify.models import JsonObject, undisclosed

RENEWED_AFTER = 0.8
"""Of a token's life."""
PAUSE_SECONDS = 5
"""After a refusal: repeated wrong passwords would lock the account."""

logger = logging.getLogger(__name__)


class Issued(msgspec.Struct, frozen=True):
    """A token, with the instants of the running clock at which it is renewed and at which it expires."""

    token: str
    user: str
    project: str | None
    renew_at: float
    expires_at: float

    __repr__ = undisclosed


class RenewedToken:
    """A token that is asked for when it is needed, and renewed before it expires.

    Args:
        login: The value of `auth` in the request for it.
    """

    def __init__(
        self,
        connection: KeystoneConnection,
        login: JsonObject,
        *,
        now: Callable[[], float] = running_seconds,
    ) -> None:
        self._connection = connection
        self._body = {"auth": login}
        self._now = now
        self._renewing = asyncio.Lock()
        self._issued: Issued | None = None
        self._refusal: LoginRefused | None = None
        self._try_at = 0.0

    async def get(self) -> Issued:
        """The token.

        Raises:
            LoginRefused: Keystone refuses the login.
            KeystoneUnavailable: Keystone gives no answer.
        """
        issued = self._issued
        if issued is None or self._now() >= issued.expires_at:
            async with self._renewing:
                # Another caller may have renewed it meanwhile.
                if self._issued is None or self._issued is issued:
                    self._issued = await self._login()
                return self._issued
        if self._now() >= max(issued.renew_at, self._try_at) and not self._renewing.locked():
            async with self._renewing:
                return await self._renewed_early(issued)
        return issued

    def forget(self, token: str) -> None:
        """Keystone does not take the token any more."""
        if self._issued is not None and self._issued.token == token:
            self._issued = None

    async def _renewed_early(self, issued: Issued) -> Issued:
        """A new token; the former one as long as Keystone gives none."""
        try:
            self._issued = issued = await self._login()
        except KeystoneUnavailable:
            self._try_at = self._now() + PAUSE_SECONDS
        return issued

    async def _login(self) -> Issued:
        if self._refusal is not None and self._now() < self._try_at:
            raise LoginRefused(self._refusal.status)
        answer = await self._connection.send("POST", "/auth/tokens?nocatalog", body=self._body)
        if answer.status != HTTPStatus.CREATED:
            self._try_at = self._now() + PAUSE_SECONDS
            self._refusal = LoginRefused(answer.status)
            raise self._refusal
        return _issued_in(answer, now=self._now())


class OwnToken(RenewedToken):
    """The token of the service's own account."""

    async def get(self) -> Issued:
        try:
            return await super().get()
        except LoginRefused as refusal:
            facts = {"action": "keystone_refuses_us", "status": refusal.status}
            logger.error("Keystone refuses the service's own account", extra=facts)
            raise


def _issued_in(answer: Answer, *, now: float) -> Issued:
    try:
        token = msgspec.convert(answer.document.get("token"), _Token)
    except msgspec.ValidationError as error:
        raise KeystoneUnavailable("Keystone issued a token that is not whole") from error
    if not answer.subject_token:
        raise KeystoneUnavailable("Keystone issued a token without its text")
    # The life, not the instant: the clocks of hosts differ.
    life = (token.expires_at - token.issued_at).total_seconds()
    return Issued(
        answer.subject_token,
        token.user.id,
        None if token.project is None else token.project.id,
        now + life * RENEWED_AFTER,
        now + life,
    )


class _Named(msgspec.Struct):
    id: str


class _Token(msgspec.Struct):
    issued_at: Instant
    expires_at: Instant
    user: _Named
    project: _Named | None = None
