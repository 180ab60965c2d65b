"""The service's own token in Keystone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

import msgspec

from zaqar_notify.auth.keystone.connection import Answer, KeystoneConnection
from zaqar_notify.clock import running_seconds
from zaqar_notify.errors import KeystoneUnavailable
from zaqar_notify.models import JsonObject

RENEWED_AFTER = 0.8
"""Of a token's life."""
PAUSE_SECONDS = 5
"""After a refusal: repeated wrong passwords would lock the account."""

logger = logging.getLogger(__name__)


class Issued(msgspec.Struct, frozen=True):
    """A token, with the instants of the running clock at which it is renewed and at which it expires."""

    text: str
    renew_at: float
    expires_at: float


class OwnToken:
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
        self._token: Issued | None = None
        self._try_at = 0.0

    async def get(self) -> str:
        """The token.

        Raises:
            KeystoneUnavailable: There is none, because Keystone gives no answer or refuses the account.
        """
        token = self._token
        if token is None or self._now() >= token.expires_at:
            async with self._renewing:
                if self._token is token:
                    await self._renew()
        elif self._now() >= max(token.renew_at, self._try_at) and not self._renewing.locked():
            async with self._renewing:
                await self._renew_early()
        if self._token is None:
            raise KeystoneUnavailable("Keystone has withdrawn the service's own token")
        return self._token.text

    def forget(self, text: str) -> None:
        """Keystone does not take the token any more."""
        if self._token is not None and self._token.text == text:
            self._token = None

    async def _renew_early(self) -> None:
        """The former token goes on if this fails."""
        try:
            await self._renew()
        except KeystoneUnavailable:
            self._try_at = self._now() + PAUSE_SECONDS

    async def _renew(self) -> None:
        if self._now() < self._try_at:
            raise KeystoneUnavailable("Keystone refused the service's own account a moment ago")
        answer = await self._connection.send("POST", "/auth/tokens?nocatalog", body=self._body)
        if answer.status != HTTPStatus.CREATED:
            self._try_at = self._now() + PAUSE_SECONDS
            facts = {"action": "keystone_refuses_us", "status": answer.status}
            logger.error("Keystone refuses the service's own account", extra=facts)
            raise KeystoneUnavailable(
                f"Keystone refuses the service's own account: HTTP {answer.status}"
            )
        self._token = self._issued(answer)

    def _issued(self, answer: Answer) -> Issued:
        try:
            token = msgspec.convert(answer.document.get("token"), _Life)
        except msgspec.ValidationError as error:
            raise KeystoneUnavailable("Keystone issued a token without an expiry") from error
        if not answer.subject_token:
            raise KeystoneUnavailable("Keystone issued a token without its text")
        # The life, not the instant: the clocks of hosts differ.
        life = (token.expires_at - token.issued_at).total_seconds()
        now = self._now()
        return Issued(answer.subject_token, now + life * RENEWED_AFTER, now + life)


class _Life(msgspec.Struct):
    issued_at: datetime
    expires_at: datetime
