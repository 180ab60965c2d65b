"""A surface: one wire below a prefix, with its authenticator, its checks and the form of its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from api.answers import Answer
from api.authentication import Authenticator
from api.requests import Call
from api.resources import Parameter, Resource
from zaqar_notify.settings import Settings

Admission: TypeAlias = Callable[[Call, Settings], None]
ErrorShape: TypeAlias = Callable[[Exception, Call], Answer]


@dataclass(frozen=True, slots=True)
class Documented:
    """What the documentation says of all resources of a surface.

    Args:
        headers: Of every request, but to open resources.
        names: The parameters of paths, by their names.
        refuses: Why any request may be refused, but to open resources: one example for each status, beyond
            the reasons of every surface.
        error: The type of an error's body.
        meanings: What a status of an error means.
    """

    headers: tuple[Parameter, ...] = ()
    names: Mapping[str, Parameter] = field(default_factory=dict)
    refuses: tuple[Exception, ...] = ()
    error: Any = str
    meanings: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Surface:
    """One wire.

    Args:
        prefix: What the paths of its resources begin with.
        resources: In the order of the documentation.
        authenticator: Names the caller of each request, but to open resources.
        admit: Checks the head of each request whose caller is known, and sets the call's `project`,
            `client_id` and `ref`. It raises the error that the request is refused with.
        errors: Makes the answer to a request that failed with an error of the domain, with a
            `RequestRefused` (an unknown path or method), or with any other exception, which is a defect.
    """

    prefix: str
    resources: tuple[Resource, ...]
    authenticator: Authenticator
    admit: Admission
    errors: ErrorShape
    documented: Documented = Documented()

    def is_below(self, path: str) -> bool:
        """Whether the path is the surface's prefix, or below it."""
        return f"{path}/".startswith(f"{self.prefix}/")
