"""The actions of Zaqar's WebSocket API: each stands for one HTTP operation, and is guarded by its rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, cast

import msgspec

from api import v2
from api.answers import Answer
from api.push.calls import FrameCall
from api.push.frames import FrameInvalid
from api.requests import Call
from api.resources import Method, Operation, Resource
from zaqar_notify.service import Service

Fields = TypeVar("Fields", bound=msgspec.Struct)
FrameHandler: TypeAlias = Callable[[Service, FrameCall, Fields], Awaitable[Answer]]
"""Gives the body of the answer, as JSON, and its status."""

AUTHENTICATE = "authenticate"
"""The action that is answered before the gate."""

SUBSCRIBE = "subscription_create"


@dataclass(frozen=True, slots=True)
class Action:
    """One action.

    Args:
        kind: The type of the frame's body.
        resource: The resource of its HTTP operation, with the operation as the action answers it.
        method: Of the HTTP operation.
        needs_client_id: Whether `Client-ID` must be well-formed.
    """

    name: str
    kind: type[msgspec.Struct]
    resource: Resource
    method: str
    needs_client_id: bool

    @property
    def rule(self) -> str | None:
        return self.resource.by_method[self.method].rule

    def read(self, text: bytes) -> msgspec.Struct:
        """The body of a frame as the action's type.

        Raises:
            FrameInvalid: It does not fit; the sentence names the field.
        """
        try:
            return msgspec.json.decode(text, type=self.kind)
        except (msgspec.DecodeError, RecursionError) as error:
            raise FrameInvalid(f"Schema validation failed. {error}") from error

    def names(self, fields: msgspec.Struct) -> dict[str, str]:
        """The parameters of the operation's path."""
        return {name: str(getattr(fields, name)) for name in self.resource.parameters}


_OPERATIONS = {
    (method, resource.path): operation
    for resource in v2.RESOURCES
    for method, operation in resource.by_method.items()
}


def action(
    name: str,
    method: Method,
    path: str,
    kind: type[Fields],
    handler: FrameHandler[Fields],
    *,
    needs_client_id: bool = False,
    is_signable: bool = False,
) -> Action:
    """The action that stands for an operation of version 2. Those of messages, and others that are `is_signable`, may be
    asked for by a signature."""
    operation = _OPERATIONS[method, f"{v2.PREFIX}/queues{path}"]

    async def answer(service: Service, call: Call) -> Answer:
        frame = cast(FrameCall, call)
        return await handler(service, frame, cast(Fields, frame.fields))

    resource = Resource(
        f"{v2.PREFIX}/queues{path}",
        {method: Operation(answer, operation.rule, operation.summary, {})},
        is_signable=is_signable or "/messages" in path,
    )
    return Action(name, kind, resource, method, needs_client_id)


def by_name(actions: Iterable[Action]) -> dict[str, Action]:
    return {each.name: each for each in actions}
