"""Whether a path holds a database of ours, another program's, or the remains of one.

It is told from bytes alone: SQLite writes beside a file that it opens, and into its head.
"""

from __future__ import annotations

from pathlib import Path

from zaqar_notify.storage.sqlite.migrations import APPLICATION_ID

FOREIGN = "is no database of zaqar-notify"

_MAGIC = b"SQLite format 3\0"
_HEAD_BYTES = 100
_MARK = slice(68, 72)
"""The place of `application_id` in the head of a database: it names the owning program."""


def remains(path: Path) -> str | None:
    """A description of the remains of a store at `path`; None when there is a database, or nothing.

    Raises:
        OSError: It can't be read.
    """
    if not path.exists():
        if _size(Path(f"{path}-wal")):
            return f"{path} is missing beside its write-ahead log {path.name}-wal"
        return None
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if not head:
        return f"{path} is empty"
    return None if head == _MAGIC else f"{path} is not a database, or the rest of one"


def is_foreign(path: Path) -> bool:
    """Whether the database at `path` is another program's.

    Raises:
        OSError: It can't be read.
    """
    if not path.exists():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    # A process that died young may have left its mark in the log alone.
    return not (_is_marked(head) or _is_marked(_first_page_in_log(path)))


def _is_marked(page: bytes) -> bool:
    return page[_MARK] == APPLICATION_ID.to_bytes(4)


def _first_page_in_log(path: Path) -> bytes:
    """The head of the database as the write-ahead log has it; empty, if it has none.

    Source: https://sqlite.org/fileformat2.html#walformat
    """
    log = Path(f"{path}-wal")
    if not log.exists():
        return b""
    found = b""
    with log.open("rb") as file:
        head = file.read(32)
        page_bytes, salts = int.from_bytes(head[8:12]), head[16:24]
        while len(frame := file.read(24)) == 24 and frame[8:16] == salts:
            page = file.read(page_bytes)
            if int.from_bytes(frame[:4]) == 1:
                found = page[:_HEAD_BYTES]
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
