"""Tokens that are confined to the queues of a pattern."""

from __future__ import annotations

from zaqar_notify.auth.callers import Caller
from zaqar_notify.errors import QueueNotPermitted
from zaqar_notify.metadata import QUEUE_KEYS
from zaqar_notify.rules.tokens import covers


def may_see(caller: Caller, name: str) -> bool:
    """Whether a queue is within the caller's reach."""
    return caller.queues is None or covers(caller.queues, name)


def check_queue(caller: Caller, name: object) -> None:
    """Refuse a queue that is out of the caller's reach; a value that is no name is refused elsewhere.

    Raises:
        QueueNotPermitted: The caller's token is confined to other queues.
    """
    if caller.queues is not None and isinstance(name, str) and not may_see(caller, name):
        raise QueueNotPermitted(caller.queues)


def check_named_queues(caller: Caller, document: object) -> None:
    """Refuse metadata or options that name a queue out of the caller's reach."""
    if isinstance(document, dict):
        for key in QUEUE_KEYS:
            check_queue(caller, document.get(key))


def check_all_queues(caller: Caller) -> None:
    """Refuse an operation on all queues of a project.

    Raises:
        QueueNotPermitted: The caller's token is confined to some of them.
    """
    if caller.queues is not None:
        raise QueueNotPermitted(caller.queues)
