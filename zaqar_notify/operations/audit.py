"""The audit: one log record for each change that a caller asked for, also when it was refused.

A record names the caller, the operation and the outcome. It has no body, no query and no secret.
"""

from __future__ import annotations

import logging

from zaqar_notify.auth import Caller

LONGEST = 256
"""Characters of a value that a client chose. Paths may be much longer."""

logger = logging.getLogger(__name__)
# A level of its own: no level of the log leaves a record out.
logger.setLevel(logging.INFO)


def note_request(caller: Caller | None, **facts: object) -> None:
    """Record a request; a caller of None was refused before it was known.

    Args:
        facts: `rule`, `queue`, `method`, `path`, `status` and the ids of the request.
    """
    known: dict[str, object] = {}
    if caller is not None:
        known = {
            "how": caller.how,
            "user": caller.user,
            "token_id": caller.token_id,
            "project": caller.project,
        }
    _note("A change was asked for", known | facts)


def note_command(*, status: str, **facts: object) -> None:
    """Record a command of the operator.

    Args:
        status: `done`, `refused` or `failed`.
        facts: `rule`, and what it was done to.
    """
    _note("A command was given", {"how": "command", **facts, "status": status})


def _note(message: str, facts: dict[str, object]) -> None:
    shown = {
        name: value[:LONGEST] if isinstance(value, str) else value
        for name, value in facts.items()
        if value is not None
    }
    logger.info(message, extra={"action": "audit", **shown})
