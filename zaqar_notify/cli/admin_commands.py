"""The commands that `up` runs for its operator."""

from __future__ import annotations

from typing import Any

from zaqar_notify.cli import (
    doctor_command,
    import_command,
    poison_command,
    quota_command,
    rekey_command,
    token_command,
)
from zaqar_notify.operations.admin import Command

COMMANDS: tuple[Command[Any, Any], ...] = (
    doctor_command.LOOK,
    poison_command.FIND,
    poison_command.GIVE_BACK,
    poison_command.REMOVE,
    quota_command.FIND,
    quota_command.PUT,
    token_command.MAKE,
    token_command.FIND,
    token_command.REMOVE,
    import_command.IMPORT,
    rekey_command.REKEY,
)
