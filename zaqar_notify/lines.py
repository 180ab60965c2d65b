"""Text that must stay on one line: header values, addresses, details in a log."""

from __future__ import annotations

import re

CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Controls, line breaks, and half surrogates, which can't be written out."""


def has_control_characters(text: str) -> bool:
    """Whether `text` could break a line or not be written out."""
    return CONTROL_CHARACTERS.search(text) is not None
