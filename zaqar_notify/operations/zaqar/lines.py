"""The lines of a translation: settings, and notes about differences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from zaqar_notify.models import undisclosed
from zaqar_notify.operations.zaqar.conf import ZaqarConf
from zaqar_notify.settings import variable

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%,+=-]*")


class Setting(msgspec.Struct, frozen=True):
    """A setting of ours, by its field, with its text."""

    name: str
    text: str

    __repr__ = undisclosed

    def __str__(self) -> str:
        return f"{variable(self.name)}={_quoted(self.text)}"


class Note(msgspec.Struct, frozen=True):
    """A sentence for the operator. It holds no value of the file, which may be a secret."""

    text: str

    def __str__(self) -> str:
        return f"# {self.text}"


Line: TypeAlias = Setting | Note
Topic: TypeAlias = Callable[[ZaqarConf], Iterator[Line]]


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
