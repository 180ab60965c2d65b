"""A compiled schema, and its check of JSON texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import orjson

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.json_schema.compilation import Compiler
from zaqar_notify.rules.json_schema.evaluation import Fault, Node, Steps, TooManySteps
from zaqar_notify.rules.json_schema.keywords import KEYWORDS
from zaqar_notify.rules.jsontext import MAX_DEPTH

MAX_SCHEMA_BYTES = 32 << 10
KEPT_COMPILED = 100
"""Compiled schemas that a process keeps. With their patterns they have some 3 MiB each at most, and some 100 KiB as a rule."""

STEPS = 20_000
"""Steps for a message, and one more for each byte of it."""
STEPS_AT_ONCE = 2000
"""So many are taken in the event loop: less than a millisecond."""
BYTES_READ_IN_A_STEP = 16

_SHOWN_CHARACTERS = 200


class Unfit(msgspec.Struct, frozen=True):
    """Why a text does not fit. The place of the value in it is made of names in the text; the reason has only words of
    ours and of the schema."""

    place: str
    reason: str


class Schema:
    def __init__(self, root: Node) -> None:
        self._root = root

    def unfit(self, text: bytes, steps: Steps) -> Unfit | None:
        """Why the JSON text does not fit, or None.

        Raises:
            TooManySteps: It can't be told with so many steps.
        """
        try:
            fault = self._root.check(orjson.loads(text), steps)
        except RecursionError:
            return Unfit("$", f"is nested too deep to be checked (at most {MAX_DEPTH} levels)")
        return None if fault is None else Unfit(_place(fault), f"breaks {_short(fault.rule)}")

    def unfit_soon(self, texts: Sequence[bytes]) -> tuple[int, Unfit] | None:
        """The first text that does not fit, by its index.

        Raises:
            TooManySteps: To tell takes longer than the event loop can wait.
        """
        steps = Steps(STEPS_AT_ONCE)
        for index, text in enumerate(texts):
            steps.spend(len(text) // BYTES_READ_IN_A_STEP)
            found = self.unfit(text, steps)
            if found is not None:
                return index, found
        return None

    def unfit_slowly(self, texts: Sequence[bytes]) -> tuple[int, Unfit] | None:
        """The same in a thread. A text that takes too many steps does not fit."""
        for index, text in enumerate(texts):
            most = STEPS + len(text)
            try:
                found = self.unfit(text, Steps(most, yields=True))
            except TooManySteps:
                found = Unfit("$", f"takes more than {most} steps to be checked")
            if found is not None:
                return index, found
        return None


def canonical_text(document: object) -> str:
    """The document as queues keep it; equal ones have equal texts."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()


@lru_cache(maxsize=KEPT_COMPILED)
def compiled(text: str) -> Schema:
    """The schema of a canonical text.

    Raises:
        ValidationFailed: It is no schema that can be used.
    """
    document = orjson.loads(text)
    if not isinstance(document, dict):
        raise ValidationFailed("_message_schema must be a JSON Schema: an object")
    return Schema(Compiler(document, KEYWORDS).compile())


def _place(fault: Fault) -> str:
    place = "$"
    for part in reversed(fault.path):
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    return _short(place)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
