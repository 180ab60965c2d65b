"""Which names a queue and a project may have."""

from __future__ import annotations

import re

from zaqar_notify.errors import ProjectInvalid, QueueNameInvalid
from zaqar_notify.models import QueueRef

MAX_PROJECT_CHARACTERS = 256

# Clients and proxies take "." and ".." out of a path: such a queue could be made and not reached.
_QUEUE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,64}")


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


def check_project(project: str) -> str:
    """The project, if it can have queues.

    Raises:
        ProjectInvalid: Its name is too long.
    """
    if len(project) > MAX_PROJECT_CHARACTERS:
        raise ProjectInvalid(len(project), MAX_PROJECT_CHARACTERS)
    return project
