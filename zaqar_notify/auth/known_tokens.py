"""From the text of a tenant token to its caller, without a read of the store for each request."""

from __future__ import annotations

import asyncio
import hmac
import logging
from datetime import datetime, timedelta

from zaqar_notify.auth.callers import Caller
from zaqar_notify.auth.remembered import Remembered
from zaqar_notify.clock import Clock
from zaqar_notify.errors import NotifyError, StorageUnavailable
from zaqar_notify.models import Token
from zaqar_notify.rules.tokens import digest_of, is_token
from zaqar_notify.storage.tokens import Tokens

KNOWN_SECONDS = 3.0
"""A token that was revoked stops after this time, and a second more if the store is slow to answer."""
UNKNOWN_SECONDS = 5.0
MOST_KNOWN = 10_000
MOST_ASKING = 8
"""Reads of the store at once for tokens that this process has not seen: a flood of forged ones is no more."""
PATIENCE_SECONDS = 5.0
"""After which a request with a token that this process has not seen is asked to come again. In a flood of such
requests each waits for those before it."""
USE_NOTED_EVERY = timedelta(minutes=1)

logger = logging.getLogger(__name__)


class KnownTokens:
    """Finds the callers of tenant tokens, and notes that they were used.

    It belongs to one event loop.
    """

    def __init__(self, tokens: Tokens, clock: Clock, *, most_waiting: int) -> None:
        """`most_waiting` requests at once wait for the store to tell their callers."""
        self._tokens = tokens
        self._clock = clock
        self._known: Remembered[bytes, Caller] = Remembered(
            self._find,
            seconds=KNOWN_SECONDS,
            unknown_seconds=UNKNOWN_SECONDS,
            most=MOST_KNOWN,
            most_asking=MOST_ASKING,
            most_waiting=most_waiting,
        )
        self._noting: set[asyncio.Task[None]] = set()

    async def caller(self, text: str) -> Caller | None:
        """The caller; None: the token is mistyped, unknown, revoked or expired.

        Raises:
            StorageUnavailable: The store gave no answer, and the token was not seen before.
            Overloaded: Too many requests with such tokens wait.
        """
        digest = digest_of(text)
        caller = self._known.fresh(digest)
        if caller is None and is_token(text):
            caller = await self._answer(digest)
        if caller is None:
            return None
        if caller.expires_at is not None and caller.expires_at <= self._clock.now():
            return None
        return caller

    async def _answer(self, digest: bytes) -> Caller | None:
        """The caller by the store's answer, or by the last one."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._known.get(digest)
        except TimeoutError as error:
            raise StorageUnavailable("The store gave no answer about a token in time") from error

    async def _find(self, digest: bytes) -> Caller | None:
        token = await self._tokens.find(digest)
        if token is None or not hmac.compare_digest(token.digest, digest):
            return None
        self._note_use(token)
        return Caller(
            token.project,
            roles=frozenset({token.scope}),
            how="token",
            token_id=token.id,
            is_strict=True,
            queues=token.queues,
            expires_at=token.expires_at,
        )

    def _note_use(self, token: Token) -> None:
        now = self._clock.now()
        last = token.last_used_at
        if last is not None and now < last + USE_NOTED_EVERY:
            return
        noting = asyncio.create_task(self._write_use(token, now))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _write_use(self, token: Token, now: datetime) -> None:
        try:
            await self._tokens.note_use(token.id, now=now, last=token.last_used_at)
        except NotifyError as error:
            # The request goes on, and the next look at the token notes its use.
            facts = {"action": "token_use_not_noted", "token_id": token.id, "error": str(error)}
            logger.warning("The use of a token was not noted", extra=facts)
