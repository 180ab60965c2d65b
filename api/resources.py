"""What a route is: a path, and for each method a handler with its documentation beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, TypeAlias

import msgspec

from api.answers import Answer
from api.requests import Call
from zaqar_notify.errors import NotifyError
from zaqar_notify.service import Service

Handler: TypeAlias = Callable[[Service, Call], Awaitable[Answer]]
UNGUARDED = None
"""The rule of an operation that Zaqar has none for: the policy is not asked."""

Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header, for the documentation."""

    name: str
    description: str
    kind: Any
    """A type, of which `msgspec` makes the schema."""
    example: str | int | bool | list[str]


@dataclass(frozen=True, slots=True)
class Reply:
    """A success: what it means, an example of its body, whose type is that of all such bodies, and of its
    Location.
    """

    description: str
    example: msgspec.Struct | str | None = None
    location: str | None = None
    content_type: str = "application/json"

    @property
    def kind(self) -> Any:
        return type(self.example)


@dataclass(frozen=True, slots=True)
class Body:
    """What a request's body looks like. Hot routes read it as bytes, so this is for readers."""

    example: msgspec.Struct | list[msgspec.Struct] | str
    required: bool = True
    content_type: str = "application/json"

    @property
    def kind(self) -> Any:
        """Its type; of a list, which has one kind of items, too."""
        if isinstance(self.example, list):
            return list[type(self.example[0])]  # type: ignore[misc]
        return type(self.example)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a resource.

    `rule` names what the policy is asked, as Zaqar's policies do, or ours where Zaqar has no such
    operation; `UNGUARDED`: it is not asked.
    `refuses` are its own errors, one for each status, as examples; those of headers, of the store
    and of the unforeseen go without saying.
    """

    handler: Handler
    rule: str | None
    summary: str
    replies: Mapping[int, Reply]
    description: str = ""
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    body: Body | None = None
    refuses: tuple[NotifyError, ...] = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """A path template with its methods.

    `HEAD` is answered as `GET` unless it has an operation of its own; `OPTIONS` always.

    Args:
        is_open: Asks for no identity: no `Client-ID`, no project.
        is_signable: Can be reached by a pre-signed URL that covers its path.
    """

    path: str
    operations: Mapping[Method, Operation]
    is_open: bool = False
    is_signable: bool = True
    by_method: Mapping[str, Operation] = field(init=False)
    allow: bytes = field(init=False)

    def __post_init__(self) -> None:
        by_method: dict[str, Operation] = {
            str(method): each for method, each in self.operations.items()
        }
        if "GET" in by_method:
            by_method.setdefault("HEAD", by_method["GET"])
        object.__setattr__(self, "by_method", by_method)
        object.__setattr__(self, "allow", ", ".join(sorted((*by_method, "OPTIONS"))).encode())

    @property
    def name(self) -> str:
        """For `app.url_path_for`, together with the path's parameters: `v2_queues_messages`."""
        words = [word for word in self.path.split("/") if word and not word.startswith("{")]
        return "_".join(words) or "versions"

    def options(self) -> Answer:
        return Answer(HTTPStatus.OK, headers=((b"Allow", self.allow),))
