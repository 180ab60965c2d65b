"""Text that must stay on one line: header values, addresses, details in a log."""

from __future__ import annotations

import re

_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"

CONTROL_CHARACTERS = re.compile(f"[{_CONTROL}]")
"""Controls, line breaks, and half surrogates, which can't be written out."""

ONE_LINE = rf"^[^{_CONTROL}]*\Z"
"""A text without them, as a pattern of JSON Schema."""


def has_control_characters(text: str) -> bool:
    """Whether `text` could break a line or not be written out."""
    return CONTROL_CHARACTERS.search(text) is not None
