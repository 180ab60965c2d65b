"""Which names a queue, a project, a pool and a flavor may have."""

from __future__ import annotations

import re

from zaqar_notify.errors import (
    FLAVOR_NAME_RULE,
    POOL_NAME_RULE,
    ProjectInvalid,
    QueueNameInvalid,
    TopicNameInvalid,
    ValidationFailed,
)
from zaqar_notify.models import TOPIC_MARK, QueueRef

MAX_PROJECT_CHARACTERS = 256

# Clients and proxies take "." and ".." out of a path: such a queue could be made and not reached.
_QUEUE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,64}")
_FLAVOR_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,255}")
_HEADER_TEXT = re.compile(r"[!-~\xa1-\xff](?:[ -~\xa0-\xff]*[!-~\xa1-\xff])?")


def is_queue_name(name: str) -> bool:
    return _QUEUE_NAME.fullmatch(name) is not None


def queue_ref(project: str, name: str) -> QueueRef:
    """The queue that a request names.

    Raises:
        QueueNameInvalid: It is none.
        ProjectInvalid: The project is too long.
    """
    if not is_queue_name(name):
        raise QueueNameInvalid(name)
    return QueueRef(check_project(project), name)


def topic_ref(project: str, name: str) -> QueueRef:
    """The topic that a request names. Its name follows the rule of queues' names.

    Raises:
        TopicNameInvalid: It is none.
        ProjectInvalid: The project is too long.
    """
    if not is_queue_name(name):
        raise TopicNameInvalid(name)
    return QueueRef(check_project(project), TOPIC_MARK + name)


def check_pool_name(name: str) -> None:
    """Refuse a name that a new pool can't have.

    Raises:
        ValidationFailed: It is no name.
    """
    if not is_queue_name(name):
        raise ValidationFailed(f"Pool name {name[:80]!r} is not valid: {POOL_NAME_RULE}")


def check_flavor_name(name: str) -> None:
    """Refuse a name that a new flavor can't have.

    Raises:
        ValidationFailed: It is no name.
    """
    if not _FLAVOR_NAME.fullmatch(name):
        raise ValidationFailed(f"Flavor name {name[:80]!r} is not valid: {FLAVOR_NAME_RULE}")


def check_project(project: str) -> str:
    """The project, if it can have queues.

    Raises:
        ProjectInvalid: Its name is too long.
    """
    if len(project) > MAX_PROJECT_CHARACTERS:
        raise ProjectInvalid(len(project), MAX_PROJECT_CHARACTERS)
    return project


def check_new_project(project: str) -> None:
    """Refuse a project that requests could not name.

    Raises:
        ProjectInvalid: Its name is too long.
        ValidationFailed: No header can have its name.
    """
    if not _HEADER_TEXT.fullmatch(check_project(project)):
        raise ValidationFailed(
            f"project {project[:80]!r} can't be named by a header: it must not be empty, nor begin or end with a "
            "space, and its characters must be printable Latin-1"
        )
