"""The contract of a store of tenant tokens; a part of the control store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from zaqar_notify.models import Token


class Tokens(ABC):
    """Tenant tokens; ids and digests are unique. Expired ones stay until they are removed."""

    @abstractmethod
    async def create(self, token: Token) -> None:
        """Store the token. Its id and its digest are new."""

    @abstractmethod
    async def find(self, digest: bytes) -> Token | None:
        """The token with this digest, also if it has expired."""

    @abstractmethod
    async def get(self, token_id: str) -> Token | None:
        """The token with this id, also if it has expired."""

    @abstractmethod
    async def list(self, project: str | None, *, marker: str | None, limit: int) -> list[Token]:
        """In order of id, after the id `marker`, which need not exist.

        Ids come from `clock.new_ordered_id`, so this is the order of creation.

        Args:
            project: Only tokens of this project; None: all tokens.
        """

    @abstractmethod
    async def count(self, project: str) -> int:
        """How many tokens the project has, expired ones included."""

    @abstractmethod
    async def remove(self, token_id: str) -> None:
        """Remove the token. No error if absent."""

    @abstractmethod
    async def remove_expired(self, *, now: datetime) -> None:
        """Remove the tokens that had expired at `now`."""

    @abstractmethod
    async def note_use(self, token_id: str, *, now: datetime, last: datetime | None) -> None:
        """Note that the token was used at `now`, if the last use that is noted is still `last`."""
