"""The caller of an operation, as an authenticator found it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

How: TypeAlias = Literal["none", "proxy", "token", "keystone", "signature"]


class Caller(msgspec.Struct, frozen=True):
    """A project, and a user with roles where the authenticator knows them.

    `project` is None when the request names none; it is never empty. `signed_paths` are the paths that
    the verified signature of a pre-signed URL was made for; a request without a signature has none.

    `how` names the evidence that the caller gave: nothing, a trusted proxy's headers, a tenant token, Keystone's
    token, or a signature. `token_id` is the id of a tenant token, for logs. `is_strict`: the strict rules judge this
    caller, whatever the operator's policy says. `queues` is the glob pattern that confines the caller to queues,
    or the queue of a signature; None: the caller is not confined. `expires_at` is the end of the token or the
    signature; None: it has none.
    """

    project: str | None
    user: str | None = None
    roles: frozenset[str] = frozenset()
    signed_paths: tuple[str, ...] = ()
    how: How = "none"
    token_id: str | None = None
    is_strict: bool = False
    queues: str | None = None
    expires_at: datetime | None = None
