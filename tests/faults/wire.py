"""HTTP clients that outlive the service: what gets no answer is asked again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import aiohttp
import msgspec

from zaqar_notify.clock import new_id

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30)
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
    """One client of the service: its own `Client-ID`, connections shared with the others."""

    def __init__(self, session: aiohttp.ClientSession, url: str, project: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Client-ID": new_id(), "X-Project-ID": project}

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
        body = None if document is None else msgspec.json.encode(document)
        first_asked_at = time.monotonic()
        tries = 0
        while True:
            tries += 1
            asked_at = time.monotonic()
            answer = await self._try(method, path, body, headers or {})
            answered_at = time.monotonic()
            if answer is not None:
                status, text = answer
                assert status in expected, f"{method} {path}: {status} {text[:500]!r}"
                return Answer(status, text, first_asked_at, asked_at, answered_at, tries)
            assert answered_at < first_asked_at + PATIENCE_SECONDS, f"{method} {path}: no answer"
            await asyncio.sleep(PAUSE_SECONDS)

    async def _try(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes] | None:
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=body,
                headers={**self._headers, **headers},
                timeout=REQUEST_TIMEOUT,
            ) as response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return None
        return None if response.status == UNAVAILABLE else (response.status, text)
