"""What a route is: a path, and for each method a handler with its documentation beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, TypeAlias

from api.answers import Answer
from api.errors import method_not_allowed
from api.requests import Call
from zaqar_notify.errors import NotifyError
from zaqar_notify.service import Service

Handler: TypeAlias = Callable[[Service, Call], Awaitable[Answer]]
Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header, for the documentation; `example` shows its type, too."""

    name: str
    description: str
    example: str | int | bool | list[str]


@dataclass(frozen=True, slots=True)
class Reply:
    """A success: what it means, an example of its body, and of its Location."""

    description: str
    example: object = None
    location: str | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Body:
    """What a request's body looks like. Hot routes read it as bytes, so this is for readers."""

    example: object
    required: bool = True
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a resource.

    `refuses` are its own errors, one for each status, as examples; those of headers, of the store
    and of the unforeseen go without saying.
    """

    handler: Handler
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
    handlers: Mapping[str, Handler] = field(init=False)
    allow: bytes = field(init=False)

    def __post_init__(self) -> None:
        handlers: dict[str, Handler] = {
            method: operation.handler for method, operation in self.operations.items()
        }
        if "GET" in handlers:
            handlers.setdefault("HEAD", handlers["GET"])
        object.__setattr__(self, "handlers", handlers)
        object.__setattr__(self, "allow", ", ".join(sorted((*handlers, "OPTIONS"))).encode())

    def options(self) -> Answer:
        return Answer(HTTPStatus.OK, headers=((b"Allow", self.allow),))

    def not_allowed(self) -> Answer:
        return method_not_allowed(self.allow)
