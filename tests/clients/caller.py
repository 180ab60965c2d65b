"""Plain requests, with the headers that every client sends."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import requests

from zaqar_notify.clock import new_id

TIMEOUT_SECONDS = 30


class Caller:
    """A client of one project: undashed `Client-ID`, as python-zaqarclient and tempest send it."""

    def __init__(self, url: str, project: str | None, *, client_id: str | None = None) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Client-ID"] = client_id or new_id()
        if project is not None:
            self._session.headers["X-Project-Id"] = project

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        json: object = None,
        *,
        data: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        return self._session.request(
            method,
            self._url + path,
            json=json,
            data=data,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
        )

    def post(self, queue: str, *bodies: object, ttl: int = 3600) -> list[str]:
        """Post messages and return their ids."""
        answer = self.call(
            "POST",
            f"/v2/queues/{queue}/messages",
            {"messages": [{"body": body, "ttl": ttl} for body in bodies]},
        )
        assert answer.status_code == 201, answer.text
        return [href.rpartition("/")[2] for href in answer.json()["resources"]]
