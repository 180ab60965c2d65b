"""Zaqar's API, which shows the bodies of messages: its databases may have them encrypted."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec
import requests

from zaqar_notify.errors import StartRefused
from zaqar_notify.models import QueueRef
from zaqar_notify.operations.zaqar.importing.wish import Api
from zaqar_notify.settings import shown

IDS_AT_ONCE = 20
"""Zaqar's `max_messages_per_page`, by default."""
TIMEOUT_SECONDS = (10, 60)
PAUSES_SECONDS = (0.2, 1, 3, 10)
"""Before each repetition of a request that Zaqar could not answer."""

logger = logging.getLogger(__name__)


class ShownMessage(msgspec.Struct, frozen=True):
    """A message as Zaqar shows it. Seconds; `body` is the JSON text."""

    id: str
    ttl: int
    age: int
    body: msgspec.Raw

    @property
    def left(self) -> int:
        """The seconds that are left of its life."""
        return self.ttl - self.age


class _Shown(msgspec.Struct):
    messages: list[ShownMessage] = []


class ZaqarApi:
    """Reads messages by their ids."""

    def __init__(self, api: Api) -> None:
        self._url = api.url.rstrip("/")
        self._session = requests.Session()
        # The environment's proxies and .netrc are for other programs.
        self._session.trust_env = False
        self._session.headers["Client-ID"] = str(uuid.uuid4())
        if api.token:
            self._session.headers["X-Auth-Token"] = api.token

    async def messages(self, ref: QueueRef, ids: Sequence[str]) -> Mapping[str, ShownMessage]:
        """Those of the messages that Zaqar shows, by id.

        Raises:
            StartRefused: Zaqar gives no answer, or refuses to show any.
        """
        found: dict[str, ShownMessage] = {}
        for start in range(0, len(ids), IDS_AT_ONCE):
            found |= await self._some(ref, ids[start : start + IDS_AT_ONCE])
        return found

    def close(self) -> None:
        self._session.close()

    async def _some(self, ref: QueueRef, ids: Sequence[str]) -> dict[str, ShownMessage]:
        """Ask for all at once. Where Zaqar can't, ask for halves: its `max_messages_per_page` is lower, or one of
        them is damaged, which has it show none."""
        answer = await self._get(ref, f"queues/{quote(ref.name, safe='')}/messages", ids)
        can_not = answer.status_code == 400 or answer.status_code >= 500
        if can_not and len(ids) > 1:
            middle = len(ids) // 2
            return await self._some(ref, ids[:middle]) | await self._some(ref, ids[middle:])
        if answer.status_code >= 500:
            return {}
        return {each.id: each for each in self._read(answer)}

    async def _get(self, ref: QueueRef, path: str, ids: Sequence[str]) -> requests.Response:
        """The answer; an error of the server is an answer only if Zaqar is well."""
        for pause in (*PAUSES_SECONDS, None):
            try:
                answer = await asyncio.to_thread(self._ask, ref, path, ids)
                if answer.status_code < 500 or await self._is_well(ref):
                    return answer
                reason = f"status {answer.status_code}"
            except requests.RequestException as error:
                reason = type(error).__name__
            if pause is not None:
                await asyncio.sleep(pause)
        raise StartRefused(
            f"Zaqar at {shown(self._url)} gives no answer ({reason}); run this again"
        )

    async def _is_well(self, ref: QueueRef) -> bool:
        answer = await asyncio.to_thread(self._ask, ref, "ping")
        return answer.status_code == 204

    def _ask(self, ref: QueueRef, path: str, ids: Sequence[str] = ()) -> requests.Response:
        # Zaqar takes a comma that is escaped for a part of an id.
        query = f"?ids={','.join(quote(each, safe='') for each in ids)}" if ids else ""
        return self._session.get(
            f"{self._url}/v2/{path}{query}",
            headers={"X-Project-ID": ref.project.encode("latin-1")},
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
        )

    def _read(self, answer: requests.Response) -> Sequence[ShownMessage]:
        if answer.status_code == 404:  # None of them is there any more.
            return []
        if answer.status_code in (401, 403):
            raise StartRefused(
                f"Zaqar at {shown(self._url)} answers {answer.status_code}: with Keystone give --token and --only-project, "
                "or start a second Zaqar on loopback with an empty auth_strategy"
            )
        try:
            if answer.status_code != 200:
                raise ValueError(f"status {answer.status_code}")
            return msgspec.json.decode(answer.content, type=_Shown).messages
        except (msgspec.DecodeError, ValueError) as error:
            raise StartRefused(
                f"{shown(self._url)} does not answer as Zaqar does: {error}"
            ) from error
