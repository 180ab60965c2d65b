"""A surface: one wire below a prefix, with who may ask there, and how refusals look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from api.answers import Answer
from api.authentication import Authenticator
from api.requests import Call
from api.resources import Resource
from zaqar_notify.settings import Settings

Admission: TypeAlias = Callable[[Call, Settings], None]
ErrorShape: TypeAlias = Callable[[Exception, Call], Answer]


@dataclass(frozen=True, slots=True)
class Surface:
    """One wire.

    Args:
        prefix: What the paths of its resources begin with.
        resources: In the order of the documentation.
        authenticator: Says who asks, of resources that are not open.
        admit: Checks what the wire asks of every request's head once its caller is known, and sets the
            call's `project`, `client_id` and `ref`. Raises what it refuses with.
        errors: The answer to a request that failed: with an error of the domain, with a `RequestRefused`
            (a path or method that there is not), or with one that nobody foresaw.
    """

    prefix: str
    resources: tuple[Resource, ...]
    authenticator: Authenticator
    admit: Admission
    errors: ErrorShape

    def is_below(self, path: str) -> bool:
        """Whether the path is the surface's prefix, or below it."""
        return f"{path}/".startswith(f"{self.prefix}/")
