"""HTTP with Keystone: bounded in time, in memory and in requests at once; its failures are one error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, TypeAlias

import aiohttp
import msgspec

from zaqar_notify.auth.keystone.account import Account
from zaqar_notify.errors import KeystoneUnavailable
from zaqar_notify.models import JsonObject, undisclosed

Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""In an answer; one without a zone is malformed."""

MOST_BYTES = 1 << 20
"""Of an answer."""
MOST_REQUESTS = 32
"""At once, in one process."""

logger = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True):
    status: int
    document: JsonObject
    """Empty if the answer is not a JSON object."""
    subject_token: str
    """The header of a token that was issued."""

    __repr__ = undisclosed

    @property
    def is_refusal(self) -> bool:
        """Keystone itself refuses: a proxy in front of it would have no such body."""
        error = self.document.get("error")
        return isinstance(error, dict) and error.get("code") == self.status


class KeystoneConnection:
    """Belongs to one event loop."""

    def __init__(self, account: Account, *, timeout_seconds: float) -> None:
        self._account = account
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._opened: aiohttp.ClientSession | None = None
        self._is_away = False
        self._is_closed = False

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        subject: str = "",
        body: object = None,
        may_repeat: bool = True,
    ) -> Answer:
        """The answer, below 500, of Keystone to a request.

        Args:
            path: Below `/v3`.
            token: The caller's.
            subject: The token that the request is about.
            may_repeat: If the connection is closed before an answer, the request is sent once more: an idle
                connection may have been closed meanwhile.

        Raises:
            KeystoneUnavailable: No whole answer came in time, or one that says that Keystone can't answer.
        """
        headers = {"Accept": "application/json"}
        if token:
            headers["X-Auth-Token"] = token
        if subject:
            headers["X-Subject-Token"] = subject
        try:
            try:
                answer = await self._exchange(method, path, headers, body)
            except aiohttp.ServerDisconnectedError:
                if not may_repeat:
                    raise
                answer = await self._exchange(method, path, headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(str(error) or "no answer in time") from error
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self._failed(f"HTTP {answer.status}")
        if self._is_away:
            self._is_away = False
            logger.warning("Keystone answers again", extra={"action": "keystone_back"})
        return answer

    async def close(self) -> None:
        """Requests fail from now on. Idempotent."""
        self._is_closed = True
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    async def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: object
    ) -> Answer:
        # Redirects could lead the service's own token elsewhere.
        async with self._session().request(
            method,
            f"{self._account.url}{path}",
            headers=headers,
            json=body,
            ssl=self._account.tls,
            allow_redirects=False,
        ) as response:
            text = await response.content.read(MOST_BYTES)
            while not response.content.at_eof() and len(text) < MOST_BYTES:
                text += await response.content.read(MOST_BYTES - len(text))
            issued = response.headers.get("X-Subject-Token", "")
            return Answer(response.status, _document(text), issued)

    def _session(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise KeystoneUnavailable("The connection with Keystone is closed")
        if self._opened is None:
            connector = aiohttp.TCPConnector(limit=MOST_REQUESTS)
            self._opened = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._opened

    def _failed(self, reason: str) -> KeystoneUnavailable:
        if not self._is_away:
            self._is_away = True
            facts = {"action": "keystone_away", "error": reason}
            logger.error("Keystone gives no answer; only tokens that are known go on", extra=facts)
        return KeystoneUnavailable(f"Keystone gives no answer: {reason}")


def _document(text: bytes) -> JsonObject:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
