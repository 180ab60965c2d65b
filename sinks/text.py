"""Text from outside, where it must stay on one line: header values, addresses, log details."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DETAIL_CHARACTERS = 240


def has_control_characters(text: str) -> bool:
    """Whether `text` could break a line or not be written out: controls, half surrogates."""
    return _CONTROL.search(text) is not None


def detail(text: str) -> str:
    """`text` on one line, without control characters, cut to the length of an outcome's detail."""
    return " ".join(_CONTROL.sub(" ", text).split())[:_DETAIL_CHARACTERS]
