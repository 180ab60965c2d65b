"""One frame of a client, and the answer to it."""

from __future__ import annotations

import logging
from time import perf_counter

import msgspec

from api.push import frames
from api.push.calls import FrameCall

UNKNOWN = "unknown"
"""Stands in metrics and logs for an action that is none of ours."""

logger = logging.getLogger(__name__)


class FrameExchange:
    """A frame that is being answered. `call` is its request, once the frame was read."""

    call: FrameCall | None = None
    action: str | None = None
    body = frames.EMPTY

    def __init__(self, data: frames.Data, request_id: bytes) -> None:
        self._began = perf_counter()
        self._data = data
        self.headers: dict[str, msgspec.Raw] = {}
        self.request_id = request_id

    @property
    def is_binary(self) -> bool:
        return isinstance(self._data, bytes)

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self) -> None:
        """Read the frame, as far as it can be read: an answer to a bad frame repeats that much.

        Raises:
            FrameInvalid: It can't be read, or has no headers or no name of an action.
        """
        request = frames.read(self._data)
        if request.body is not msgspec.UNSET:
            self.body = request.body
        self.action = frames.read_action(request)
        self.headers = frames.read_headers(request)

    def facts(self) -> dict[str, object]:
        """The fields of every log record about the frame."""
        return {"request_id": self.request_id.decode("ascii")}

    def answer(self, *, status: int, content: bytes) -> frames.Data:
        """The frame that answers; `content` is JSON text."""
        text = frames.answer(
            action=self.action,
            headers=self.headers,
            body=self.body,
            status=status,
            content=content or b"{}",
        )
        return frames.written(text, is_binary=self.is_binary)

    def log(self, action: str, status: int) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            took = round((perf_counter() - self._began) * 1000, 3)
            logger.debug(
                "frame",
                extra={
                    "action": "frame",
                    **self.facts(),
                    "frame": action,
                    "status": int(status),
                    "milliseconds": took,
                },
            )
