"""A claim in a consumer's hands."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import msgspec

from zaqar_notify.client.models import Message
from zaqar_notify.client.transport import Transport


class Claim:
    """A lease over `messages`, oldest first, for `ttl` seconds; false when it holds none.

    As a context manager it releases the messages that were not deleted, so that a consumer that
    fails delays no message.
    """

    def __init__(
        self,
        transport: Transport,
        queue_path: str,
        *,
        claim_id: str | None,
        ttl: int,
        messages: list[Message],
    ) -> None:
        """`claim_id` is None when there was nothing to claim."""
        self.id = claim_id
        self.ttl = ttl
        self.messages = messages
        self._transport = transport
        self._queue_path = queue_path
        self._held = {message.id for message in messages}

    def __bool__(self) -> bool:
        return bool(self.messages)

    def delete(self, message: Message) -> None:
        """Delete a message of the claim.

        Raises:
            ServiceError: The lease has expired; another consumer may have the message.
        """
        path = f"{self._queue_path}/messages/{message.id}"
        self._transport.send("DELETE", path, parameters={"claim_id": self.id})
        self._held.discard(message.id)

    def renew(self, ttl: int, grace: int = 60) -> None:
        """Let the lease end `ttl` seconds from now.

        Raises:
            NotFound: It has expired, or holds nothing.
        """
        body = msgspec.json.encode({"ttl": ttl, "grace": grace})
        self._transport.send("PATCH", f"{self._queue_path}/claims/{self.id}", body=body)
        self.ttl = ttl

    def release(self) -> None:
        """Release the messages that were not deleted. Other consumers can claim them at once."""
        if self._held:
            self._transport.send("DELETE", f"{self._queue_path}/claims/{self.id}")
            self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
