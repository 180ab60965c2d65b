"""The caller of an operation, as an authenticator found it."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """A project, and a user with roles where the authenticator knows them.

    `project` is None when the request names none; it is never empty. `signed_paths` are the paths that
    the verified signature of a pre-signed URL was made for; a request without a signature has none.
    """

    project: str | None
    user: str | None = None
    roles: frozenset[str] = frozenset()
    signed_paths: tuple[str, ...] = ()
