"""The caller of an operation, as an authenticator found it."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """Who asks: a project, and as far as it is known a user with roles.

    `project` is None when the request names none; it is never empty. `signed_paths` are what the
    verified signature of a pre-signed URL was made for; without one there are none.
    """

    project: str | None
    user: str | None = None
    roles: frozenset[str] = frozenset()
    signed_paths: tuple[str, ...] = ()

    @property
    def is_presigned(self) -> bool:
        """Whether a pre-signed URL speaks for the caller."""
        return bool(self.signed_paths)
