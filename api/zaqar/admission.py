"""The checks of the Zaqar API on the head of each request."""

from __future__ import annotations

from api.headers import admits_json, canonical_uuid, free_client_id, without_project
from api.refusals import HeaderInvalid, NotAcceptable
from api.requests import Call
from zaqar_notify.auth import is_operator
from zaqar_notify.rules.names import queue_ref, topic_ref
from zaqar_notify.settings import Settings

_FORM = b"application/x-www-form-urlencoded"


def admit(call: Call, settings: Settings) -> None:
    """Check the headers that every request needs, in the contract's order, and the queue's name.

    Raises:
        NotAcceptable: The client accepts no JSON.
        HeaderInvalid: A header is missing or malformed.
        QueueNameInvalid: No queue can have the name in the path.
        TopicNameInvalid: No topic can.
    """
    check_formats(call)
    client_id = call.headers.get(b"client-id")
    if client_id is None:
        raise without_client_id()
    call.client_id = read_client_id(client_id, settings)
    if call.caller.project is None and (call.needs_project or not is_operator(call.caller)):
        raise without_project(call.headers)
    set_project(call, call.caller.project or "")


def without_client_id() -> HeaderInvalid:
    """The error of a request that needs a `Client-ID` and has none."""
    return HeaderInvalid("Missing header value", "The header Client-ID is required")


def check_formats(call: Call) -> None:
    """Refuse a form, and a client that accepts neither JSON nor, where there is one, a stream of events."""
    headers = call.headers
    if call.has_body and headers.get(b"content-type", b"").lower() == _FORM:
        raise HeaderInvalid(
            "Invalid Content-Type", "Send the body as application/json, not as a form"
        )
    accept = headers.get(b"accept", b"*/*")
    if accept != b"*/*" and not call.is_stream and not admits_json(accept):
        raise NotAcceptable


def read_client_id(value: bytes, settings: Settings) -> str:
    """The client's id in one form."""
    if settings.client_id_uuid_safe == "strict":
        return canonical_uuid(value)
    return free_client_id(value, settings)


def set_project(call: Call, project: str) -> None:
    """Set the project of the request, and the queue or the topic that its path names."""
    call.project = project
    names = call.names
    if (name := names.get("queue_name")) is not None:
        call.ref = queue_ref(project, name)
    elif (name := names.get("topic_name")) is not None:
        call.ref = topic_ref(project, name)
