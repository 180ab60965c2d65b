"""How commands write: tables for people, JSON for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from zaqar_notify.client import Message, Subscription

FOREVER = timedelta(days=100 * 365)
"""A longer life is shown as one that does not end."""

PROGRESS_SECONDS = 1.0
"""Between two lines about a long run."""


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns under headings, each as wide as its longest text."""
    lines = [tuple(map(str, row)) for row in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        print("  ".join(cells).rstrip())


def print_json(document: object) -> None:
    """One document on one line, message bodies as they were posted."""
    # A body may hold line breaks, but JSON allows them between its tokens only.
    text = msgspec.json.encode(document).decode()
    print(text.replace("\r", " ").replace("\n", " "), flush=True)


def body_line(message: Message) -> str:
    """A message's body on one line, without characters that a terminal would act on."""
    return printable(bytes(message.raw).decode())


def printable(text: str) -> str:
    """The text on one line, without characters that a terminal would act on."""
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character.isspace():
        return " "
    return character if character.isprintable() else f"\\u{ord(character):04x}"


def until(subscription: Subscription) -> str:
    """Until when it lives: an instant, or `never`."""
    ends_at = subscription.expires_at
    if ends_at is None:  # Another service's, which does not say. A changed ttl is counted anew.
        left = timedelta(seconds=subscription.ttl - subscription.age)
    else:
        left = ends_at - datetime.now(UTC)
    if left > FOREVER:
        return "never"
    return instant(ends_at or datetime.now(UTC) + left)


def instant(moment: datetime) -> str:
    """The instant, which is in UTC, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def tell(text: str) -> None:
    """Tell the person who waits for a command."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Tells now and then how much of a long run is done; `sentence` has `{}` for the number."""

    def __init__(self, sentence: str, tell: Callable[[str], None] = tell) -> None:
        self._sentence = sentence
        self._tell = tell
        self._told_at = time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._told_at >= PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            self._tell(self._sentence.format(done))
