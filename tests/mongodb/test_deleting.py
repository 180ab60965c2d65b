"""The cost of deletions: those of due messages are one command, as if there were no delays."""

from __future__ import annotations

from tests.clock import START
from tests.contract.steps import everything, hold, post
from tests.mongodb.commands import Commands
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage

DELAY = 60


def writes(commands: Commands) -> list[tuple[str, int]]:
    """The commands that changed messages, each with the number of its statements."""
    return [
        (name, len(command[f"{name}s"]))
        for command in commands.sent
        if (name := next(iter(command))) in ("update", "delete") and command[name] == "messages"
    ]


async def test_deleting_what_is_due_is_one_command(
    commands: Commands, storage: Storage, queue: QueueRef
) -> None:
    one, *many = (await post(storage, queue, bodies=["a", "b", "c", "d"])).ids
    held = await hold(storage, queue, limit=2)
    commands.sent.clear()

    await storage.messages.delete(queue, one, claim_id=held.id, now=START)
    await storage.messages.delete_many(queue, many, claim_ids=None, now=START)

    assert writes(commands) == [("delete", 1), ("delete", 1)]
    assert await everything(storage, queue) == []


async def test_deleting_what_is_not_due_notes_it_in_the_same_write(
    commands: Commands, storage: Storage, queue: QueueRef
) -> None:
    [message_id] = (await post(storage, queue, bodies=["a"], delay=DELAY)).ids
    commands.sent.clear()

    await storage.messages.delete(queue, message_id, claim_id=None, now=START)

    # The first finds nothing that is due.
    assert writes(commands) == [("delete", 1), ("update", 1)]
    assert await everything(storage, queue) == []
