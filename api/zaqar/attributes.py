"""Attributes of messages, which version 2 alone knows: its clients send them, and read them when they ask."""

from __future__ import annotations

from collections.abc import Iterable

from api.requests import Call
from api.resources import Parameter
from api.zaqar.query import Query
from api.zaqar.shapes import NOTHING_MORE, More
from zaqar_notify.delivery.posts import PostedMessage
from zaqar_notify.rules.attributes import NO_ATTRIBUTES, canonical, check_names, raw
from zaqar_notify.service import Service

_WIRE = "/v2"
_ASKED = "attributes"
_PARAMETER = Parameter(_ASKED, "Show each message's `attributes`.", bool, False)


def parameters(wire: str) -> tuple[Parameter, ...]:
    """The parameter by which clients of the version with this prefix ask for attributes, if it has one."""
    return (_PARAMETER,) if wire == _WIRE else ()


def asked_of(service: Service, call: Call) -> More:
    """The fields of messages beyond Zaqar's that the request asks for."""
    if not call.query_string or call.wire != _WIRE:
        return NOTHING_MORE
    query = Query(call.query_string)
    attributes, due = query.boolean(_ASKED), query.boolean("not_before")
    return More(attributes, service.clock if due else None) if attributes or due else NOTHING_MORE


def check_attributes(messages: Iterable[PostedMessage]) -> None:
    """Bring the messages' attributes into their canonical form.

    Raises:
        ValidationFailed: Some are wrong.
    """
    for message in messages:
        if message.attributes is not NO_ATTRIBUTES:
            text = canonical(bytes(message.attributes))
            if text is not None:
                check_names(text)
            message.attributes = raw(text)
