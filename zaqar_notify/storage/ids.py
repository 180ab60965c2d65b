"""Ids of messages, and markers of pages: one form on every store (docs/decisions/0006).

Eight bytes are the message's position in its own queue, four say which life of the queue it is of, in
hex. A position is the present millisecond, followed by a count of the queue's own. So an id does not
show how much other projects post, and a store that was restored from a backup continues after all ids
that it gave out before.
"""

from __future__ import annotations

import re
import secrets

from zaqar_notify.models import Page

POSITION_BYTES = 8
SALT_BYTES = 4
POSITIONS_PER_MS = 1 << 20
LAST_POSITION = (1 << 63) - 1
_ID = re.compile(r"[0-9a-f]{24}", re.ASCII)


def new_salt() -> bytes:
    """Of a queue's new life: its ids name nothing in other queues, nor after it is deleted or purged."""
    return secrets.token_bytes(SALT_BYTES)


def to_id(position: int, salt: bytes) -> str:
    return (position.to_bytes(POSITION_BYTES, "big") + salt).hex()


def to_position(message_id: str) -> int | None:
    """The position that an id or marker has in it; None: it is none of ours."""
    if not _ID.fullmatch(message_id):
        return None
    position = int(message_id[: 2 * POSITION_BYTES], 16)
    return position if position < LAST_POSITION else None


def markers_of(page: Page) -> list[str | None]:
    """For each message of a page the marker behind it. None: the message was moved to the queue, so its id is of another
    queue's order. The last one has the page's marker."""
    if page.marker is None:
        return []
    life = life_of(page.marker)
    ids = [message.id for message in page.messages[:-1]]
    return [*(each if life_of(each) == life else None for each in ids), page.marker]


def life_of(message_id: str) -> str:
    """The salt in an id, in hex."""
    return message_id[2 * POSITION_BYTES :]


def is_of(salt: bytes, message_id: str) -> bool:
    """Whether a well-formed id was given out in this life of a queue."""
    return message_id.endswith(salt.hex())
