"""The checks of version 1 on the head of each request: it needs neither `Client-ID` nor `X-Project-ID`."""

from __future__ import annotations

from msgspec.structs import replace

from api.headers import project_or_none, without_project
from api.requests import Call
from api.zaqar.admission import check_formats, read_client_id, set_project, without_client_id
from zaqar_notify.settings import Settings

COMMON_PROJECT = "no-project"
"""The project of all requests that name none. It has a name, so other versions can reach its queues."""


def admit(call: Call, settings: Settings) -> None:
    """Check the headers that were sent, and the queue's name. Without `Client-ID`, `client_id` is empty.

    Raises:
        NotAcceptable: The client accepts no JSON.
        HeaderInvalid: A header is malformed, or the project's is empty, or a trusted source named no project.
        QueueNameInvalid: No queue can have the name in the path.
    """
    check_formats(call)
    client_id = call.headers.get(b"client-id")
    call.client_id = "" if client_id is None else read_client_id(client_id, settings)
    if call.caller.project is None:
        names_none = project_or_none(call.headers) is None
        if not names_none or call.caller.how != "none" or settings.trust_proxy:
            raise without_project(call.headers)
        call.caller = replace(call.caller, project=COMMON_PROJECT)
    set_project(call, call.caller.project or "")


def check_client_id(call: Call) -> None:
    """Refuse a request that needs a `Client-ID` and has none."""
    if not call.client_id:
        raise without_client_id()
