"""The commands that `up` runs for its operator."""

from __future__ import annotations

from typing import Any

from zaqar_notify.cli import (
    doctor_command,
    flavor_command,
    import_command,
    move_command,
    poison_command,
    pool_command,
    quota_command,
    rekey_command,
    token_command,
)
from zaqar_notify.operations.admin import Command

COMMANDS: tuple[Command[Any, Any], ...] = (
    doctor_command.LOOK,
    flavor_command.FIND_ALL,
    flavor_command.FIND,
    flavor_command.PUT,
    flavor_command.REMOVE,
    move_command.START,
    move_command.FIND_ALL,
    move_command.BALANCE,
    poison_command.FIND,
    poison_command.GIVE_BACK,
    poison_command.REMOVE,
    pool_command.FIND_ALL,
    pool_command.FIND,
    pool_command.PUT,
    pool_command.REMOVE,
    quota_command.FIND,
    quota_command.PUT,
    token_command.MAKE,
    token_command.FIND,
    token_command.REMOVE,
    import_command.IMPORT,
    rekey_command.REKEY,
)
