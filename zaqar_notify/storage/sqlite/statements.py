"""The statements on the tables of messages: one for each kind of read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import apsw

from zaqar_notify.storage.sqlite.message_rows import MESSAGE_COLUMNS, WRITTEN
from zaqar_notify.storage.sqlite.queue_rows import QueueRow
from zaqar_notify.storage.sqlite.rows import own_position

ROWS_PER_STATEMENT = 64

Bindings: TypeAlias = Sequence[Any] | Mapping[str, Any]

_FREE = ("free_messages", "m.held_until IS NULL")
_CLAIMED = ("claimed_messages", "m.claim IS NOT NULL")
_DELAYED = ("delayed_messages", "m.held_until IS NOT NULL AND m.claim IS NULL")
STATES = (_FREE, _CLAIMED, _DELAYED)
"""The three states of a message: the index of each, and its condition."""


_AFTER = (
    f"SELECT {MESSAGE_COLUMNS} FROM messages m INDEXED BY {{index}} "
    "CROSS JOIN bodies b ON b.serial = m.serial "
    "WHERE m.queue = :queue AND m.position > :after AND {state}"
)


def in_states(select: str, *states: tuple[str, str]) -> str:
    """One statement for several states, so that a message that changes its state is in one of them."""
    return " UNION ALL ".join(select.format(index=index, state=state) for index, state in states)


def in_order(*, claimed: bool = False, delayed: bool = False) -> str:
    """The statement that reads the free messages after a position in order, and claimed or delayed
    ones between them."""
    states = [_FREE] + [_CLAIMED] * claimed + [_DELAYED] * delayed
    return f"{in_states(_AFTER, *states)} ORDER BY 1"


FREE_IN_ORDER = in_order()


@lru_cache(maxsize=64)
def free_without(clients: int) -> str:
    """`FREE_IN_ORDER` without the messages of `:client0` and so on; their bodies are not read."""
    names = ", ".join(f":client{index}" for index in range(clients))
    return f"{in_states(_AFTER, _FREE)} AND m.client NOT IN ({names}) ORDER BY 1"


IN_ORDER = {
    (claimed, delayed): in_order(claimed=claimed, delayed=delayed)
    for claimed in (False, True)
    for delayed in (False, True)
}
_AT_POSITION = "m.queue = ?1 AND m.position = ?2 AND m.moved_id IS NULL AND {state}"
_MOVED_HERE = "m.queue = ?1 AND m.moved_id = ?2"
_STATE = "SELECT m.serial, m.claim, m.held_until, m.expires_at FROM messages m"
_WHOLE = (
    f"SELECT {MESSAGE_COLUMNS} FROM messages m{{indexed}} "
    "CROSS JOIN bodies b ON b.serial = m.serial WHERE "
)
_OWN = f"{_STATE} INDEXED BY {{index}} WHERE {_AT_POSITION}"
OWN = in_states(_OWN, *STATES)
OWN_CLAIMED = in_states(_OWN, _CLAIMED)
MOVED = f"{_STATE} WHERE {_MOVED_HERE}"
WHOLE_OWN = in_states(_WHOLE.format(indexed=" INDEXED BY {index}") + _AT_POSITION, *STATES)
WHOLE_MOVED = _WHOLE.format(indexed="") + _MOVED_HERE
MOVED_POSITION = "SELECT position FROM messages WHERE queue = ? AND moved_id = ?"
FALLEN_DUE = (
    "SELECT serial FROM messages INDEXED BY held_messages "
    "WHERE queue = ? AND held_until <= ? LIMIT ?"
)
NEXT_DUE = (
    "SELECT held_until FROM messages INDEXED BY held_messages "
    "WHERE queue = ? AND held_until IS NOT NULL ORDER BY held_until LIMIT 1"
)


def first_value(db: apsw.Connection, statement: str, bindings: Bindings) -> Any:
    """The first column of the statement's first row; None when it has no row."""
    row = next(db.execute(statement, bindings), None)
    return None if row is None else row[0]


def marks(count: int) -> str:
    """As many question marks, for IN (…)."""
    return ", ".join("?" * count)


@lru_cache(maxsize=ROWS_PER_STATEMENT)
def inserts(rows: int) -> tuple[str, str]:
    """Statements that insert so many rows in one step each.

    The first one binds the queue, the first row's serial number and its position, then `WRITTEN` of each row.
    The second one binds the serial number, then the bodies. The further rows count on.
    """
    written = marks(len(WRITTEN))
    states = (f"(?1, ?2 + {row}, ?3 + {row}, {written})" for row in range(rows))
    bodies = (f"(?1 + {row}, ?)" for row in range(rows))
    return (
        f"INSERT INTO messages (queue, serial, position, {', '.join(WRITTEN)}) VALUES {', '.join(states)}",
        f"INSERT INTO bodies VALUES {', '.join(bodies)}",
    )


def lookups(
    queue: QueueRow, message_id: str, own: Iterable[str], moved: str
) -> Iterator[tuple[str, tuple[int, int | str]]]:
    """The statements that find a message by its id, the likely one first, with their bindings."""
    position = own_position(queue.salt, message_id)
    if position is not None:
        for statement in own:
            yield statement, (queue.number, position)
    yield moved, (queue.number, message_id)
