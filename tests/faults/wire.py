"""HTTP clients that outlive the service: a request without an answer is repeated, elsewhere if possible."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import aiohttp
import msgspec

from zaqar_notify.clock import new_id

TIMEOUT_SECONDS = 30.0
PAUSE_SECONDS = 0.1
"""Between tries while the service is down."""

PATIENCE_SECONDS = 60
UNAVAILABLE = 503


@dataclass(frozen=True)
class Answer:
    """An answer, and when it was asked for: at first, and in the try that was answered."""

    status: int
    body: bytes
    first_asked_at: float
    asked_at: float
    answered_at: float
    tries: int


class Wire:
    """One client of the service: its own `Client-ID`, connections shared with the others.

    It knows several addresses of the service, perhaps, and stays with one until that fails it: an
    answer of 503, or none within `timeout_seconds`. A request without an answer may have its effect all the same,
    and later than the next request.

    Nothing is between it and the service: a 503 is the service's own, and has to say in how many
    seconds to come again.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        project: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._session = session
        self._urls = deque(urls)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._headers = {"Client-ID": new_id(), "X-Project-ID": project}
        self.answers_of_503 = 0

    async def ask(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        expected: Collection[int],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask until there is an answer.

        Raises:
            AssertionError: The answer is not as `expected`, or none came in time.
        """
        first_asked_at = time.monotonic()
        tries = 0
        while True:
            tries += 1
            answer = await self.ask_once(method, path, document, expected=expected, headers=headers)
            if answer is not None:
                return replace(answer, first_asked_at=first_asked_at, tries=tries)
            waited = time.monotonic() - first_asked_at
            assert waited < PATIENCE_SECONDS, f"{method} {path}: no answer"

    async def ask_once(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        expected: Collection[int],
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Ask; None: there was no answer, or 503.

        Raises:
            AssertionError: The answer is not as `expected`, or is a 503 without `Retry-After`.
        """
        body = None if document is None else msgspec.json.encode(document)
        asked_at = time.monotonic()
        answer = await self._try(method, path, body, headers or {})
        if answer is None:
            await self._turn_away()
            return None
        status, text = answer
        assert status in expected, f"{method} {path}: {status} {text[:500]!r}"
        return Answer(status, text, asked_at, asked_at, time.monotonic(), tries=1)

    async def _turn_away(self) -> None:
        self._urls.rotate(-1)
        await asyncio.sleep(PAUSE_SECONDS)

    async def _try(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes] | None:
        try:
            async with self._session.request(
                method,
                self._urls[0] + path,
                data=body,
                headers={**self._headers, **headers},
                timeout=self._timeout,
            ) as response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return None
        if response.status != UNAVAILABLE:
            return response.status, text
        retry_after = response.headers.get("Retry-After", "")
        assert retry_after.isdecimal(), f"{method} {path}: 503, Retry-After is {retry_after!r}"
        self.answers_of_503 += 1
        return None
