"""The Zaqar API, version 1: queues have to be created, and lists are bare. docs/api.md says how it differs from version 2."""

from __future__ import annotations

from api.resources import Resource
from api.v1 import claims, messages, queues
from api.v1.admission import admit
from api.zaqar import health, home
from api.zaqar.home import MESSAGES_PAGE, QUEUE, QUEUES_PAGE, entry

__all__ = ["OF_OPERATORS", "PREFIX", "RESOURCES", "admit"]

PREFIX = "/v1"

_QUEUE = "/queues/{queue_name}"

ENTRIES = {
    "queues": entry("/queues{?marker,limit,detailed}", QUEUES_PAGE, "GET"),
    "queue": entry(_QUEUE, QUEUE, "GET", "HEAD", "PUT", "DELETE"),
    "queue-metadata": entry(f"{_QUEUE}/metadata", QUEUE, "GET", "PUT"),
    "queue-stats": entry(f"{_QUEUE}/stats", QUEUE, "GET"),
    "messages": entry(
        f"{_QUEUE}/messages{{?marker,limit,echo,include_claimed}}", MESSAGES_PAGE, "GET"
    ),
    "post-messages": entry(f"{_QUEUE}/messages", QUEUE, "POST", posts=True),
    "claim": entry(
        f"{_QUEUE}/claims{{?limit}}", QUEUE | {"limit": "claim_limit"}, "POST", posts=True
    ),
}

RESOURCES: tuple[Resource, ...] = (
    *home.resources(PREFIX, ENTRIES),
    *queues.RESOURCES,
    *messages.RESOURCES,
    *claims.RESOURCES,
    # Zaqar's ping had this name then.
    Resource(f"{PREFIX}/health", {"GET": health.PING, "HEAD": health.IS_RUNNING}),
)

OF_OPERATORS: tuple[Resource, ...] = ()
