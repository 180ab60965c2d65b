"""Resources: a path, and for each method a handler with its documentation beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from string import Formatter
from typing import Any, Literal, TypeAlias

import msgspec

from api.answers import Answer
from api.requests import Call
from api.turns import Line
from zaqar_notify.errors import NotifyError
from zaqar_notify.service import Service

Handler: TypeAlias = Callable[[Service, Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Lasting:
    """The part of the gate in an answer that has no end.

    Args:
        line: The project's turns, one for each page.
        check_caller: Raises the error by which the request would now be refused for its caller.
    """

    line: Line
    check_caller: Callable[[], Awaitable[None]]


EventsHandler: TypeAlias = Callable[[Service, Call, Lasting], Awaitable[Answer]]
UNGUARDED = None
"""The rule of an operation that the policy does not check, because Zaqar has no rule for it."""

Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header, for the documentation."""

    name: str
    description: str
    kind: Any
    """The type from which `msgspec` makes the schema."""
    example: str | int | bool | list[str]


@dataclass(frozen=True, slots=True)
class Reply:
    """A success: its meaning, and examples of its body and its `Location` header.

    The type of the example is the type of every such body, unless there is an example of another type.
    """

    description: str
    example: msgspec.Struct | list[msgspec.Struct] | str | None = None
    location: str | None = None
    content_type: str = "application/json"
    other: list[msgspec.Struct] | None = None
    events: str | None = None
    """An example of the stream of events that such a request may have for its answer."""

    @property
    def kind(self) -> Any:
        kind = _kind_of(self.example)
        return kind if self.other is None else kind | _kind_of(self.other)


@dataclass(frozen=True, slots=True)
class Body:
    """The form of a request's body, for the documentation. Hot routes read the body as bytes."""

    example: msgspec.Struct | list[msgspec.Struct] | str
    required: bool = True
    content_type: str = "application/json"

    @property
    def kind(self) -> Any:
        return _kind_of(self.example)


def _kind_of(example: object) -> Any:
    """The type of a body; all items of a list have one type."""
    if isinstance(example, list):
        return list[type(example[0])]  # type: ignore[misc]
    return type(example)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a resource.

    `rule` is the rule that the policy checks: Zaqar's name, or ours where Zaqar has no such
    operation. `UNGUARDED`: the policy is not asked.
    `refuses` holds examples of the operation's own errors, one for each status. Errors of headers,
    errors of the store and defects are documented for every operation.
    `events`: the handler of requests that accept a stream of events rather than JSON. They may have their
    credentials in the query.
    `takes_messages`: it changes something and answers with messages, as a claim or a pop does.
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
    takes_messages: bool = False
    events: EventsHandler | None = None


@dataclass(frozen=True, slots=True)
class Resource:
    """A path template with its methods.

    `HEAD` is answered as `GET`, unless it has its own operation. `OPTIONS` is always answered.

    Args:
        is_open: The resource needs no identity: no `Client-ID` and no project.
        is_signable: A pre-signed URL that covers the path can call the resource.
        needs_project: The operations are about one project. An operator can call others without naming one.
    """

    path: str
    operations: Mapping[Method, Operation]
    is_open: bool = False
    is_signable: bool = True
    needs_project: bool = True
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
    def parameters(self) -> Sequence[str]:
        """The names of the path's parameters."""
        return [name for _, name, _, _ in Formatter().parse(self.path) if name]

    @property
    def name(self) -> str:
        """The name for `app.url_path_for`, such as `v2_queues_messages` or `v1_1_queues`."""
        words = [word for word in self.path.split("/") if word and not word.startswith("{")]
        return "_".join(words).replace(".", "_") or "versions"

    def options(self) -> Answer:
        return Answer(HTTPStatus.OK, headers=((b"Allow", self.allow),))
