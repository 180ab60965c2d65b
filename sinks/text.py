"""Text from outside, as a short detail."""

from __future__ import annotations

from zaqar_notify.rules.lines import CONTROL_CHARACTERS

_DETAIL_CHARACTERS = 240


def detail(text: str) -> str:
    """`text` on one line, without control characters, cut to the length of an outcome's detail."""
    return " ".join(CONTROL_CHARACTERS.sub(" ", text).split())[:_DETAIL_CHARACTERS]
