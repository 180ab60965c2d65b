"""A surface: one wire protocol below a prefix, with its authenticator, checks and error form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from api.answers import Answer
from api.authentication import Authenticator
from api.requests import Call
from api.resources import Parameter, Resource
from zaqar_notify.settings import Settings

Admission: TypeAlias = Callable[[Call, Settings], None]
ErrorShape: TypeAlias = Callable[[Exception, Call], Answer]


@dataclass(frozen=True, slots=True)
class Documented:
    """The part of the documentation that all resources of a surface share.

    Args:
        headers: The headers of every request, except to open resources.
        names: The parameters of paths, by name.
        refuses: Errors of every request, except to open resources: one example for each status. The
            errors that all surfaces share are not repeated here.
        error: The type of an error's body.
        meanings: The meaning of each error status.
        needs_headers: Whether a request is refused without those headers.
        group: Stands before the tags of its resources.
    """

    headers: tuple[Parameter, ...] = ()
    names: Mapping[str, Parameter] = field(default_factory=dict)
    refuses: tuple[Exception, ...] = ()
    error: Any = str
    meanings: Mapping[int, str] = field(default_factory=dict)
    needs_headers: bool = True
    group: str = ""


@dataclass(frozen=True, slots=True)
class Surface:
    """One wire protocol below a prefix.

    Args:
        prefix: The start of the paths of its resources.
        resources: The resources, in the order of the documentation.
        authenticator: Names the caller of each request, except to open resources.
        admit: Checks the headers of each request whose caller is known, and sets `project`,
            `client_id` and `ref` of the call. It raises the error that refuses the request.
        errors: Makes the answer to a request that failed with an error of the domain, with a
            `RequestRefused` (an unknown path or method), or with a defect (any other exception).
    """

    prefix: str
    resources: tuple[Resource, ...]
    authenticator: Authenticator
    admit: Admission
    errors: ErrorShape
    documented: Documented = Documented()

    def is_below(self, path: str) -> bool:
        """Whether the path is the surface's prefix, or lies below it."""
        return f"{path}/".startswith(f"{self.prefix}/")


class Guarded(NamedTuple):
    """An operation that a rule guards."""

    method: str
    path: str
    summary: str


def guarded(surfaces: Iterable[Surface]) -> dict[str, list[Guarded]]:
    """The operations that each rule guards, in the order of the documentation."""
    found: dict[str, list[Guarded]] = {}
    for surface in surfaces:
        for resource in surface.resources:
            for method, operation in resource.operations.items():
                if operation.rule is not None:
                    one = Guarded(method, resource.path, operation.summary)
                    found.setdefault(operation.rule, []).append(one)
    return found
