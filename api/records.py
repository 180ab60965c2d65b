"""The records that a request leaves in the log: of a failure, and of a change that was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from api.refusals import RequestRefused
from api.requests import Call
from api.resources import Resource
from zaqar_notify.errors import KeyMissing, NotifyError, StorageUnavailable
from zaqar_notify.operations.audit import note_request
from zaqar_notify.service import Service

WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

logger = logging.getLogger(__name__)


def note_failure(error: Exception, service: Service, facts: dict[str, object]) -> None:
    """Log a defect, and the begin of an outage of the store. Errors of the request are not logged.

    Args:
        facts: The fields of every log record about the request.
    """
    if isinstance(error, KeyMissing):
        return  # Logged where it was met; the store is well.
    if isinstance(error, StorageUnavailable):
        service.health.outage.note(error, facts)
    elif not isinstance(error, NotifyError | RequestRefused):
        logger.error("request failed", exc_info=error, extra={"action": "request_failed", **facts})


def note_success(call: Call, service: Service, facts: Callable[[], dict[str, object]]) -> None:
    """Log the end of an outage of the store."""
    if service.health.outage.is_on and call.method in WRITING:
        service.health.outage.note_end(facts())


def audit(call: Call, resource: Resource, status: int, facts: dict[str, object]) -> None:
    """Record a request to change something; its answer is about to be sent."""
    operation = resource.by_method.get(call.method)
    note_request(
        getattr(call, "caller", None),
        rule=operation.rule if operation is not None else None,
        queue=call.queue_name,
        method=call.method,
        path=call.path,
        status=int(status),
        **facts,
    )
