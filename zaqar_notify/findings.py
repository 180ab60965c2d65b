"""The findings of `zaqar-notify doctor`: a sentence and a remedy each."""

from __future__ import annotations

from enum import StrEnum

import msgspec

ANSWER_SECONDS = 5
"""How long a store, a broker or a relay is waited for."""


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, and something is missing or near."""
    PROBLEM = "problem"
    """It does not work, or will not for long."""


class Finding(msgspec.Struct, frozen=True):
    """`check` names the checked part: store, broker, mail…; an `ok` asks for no remedy."""

    level: Level
    check: str
    sentence: str
    remedy: str = ""


def ok(check: str, sentence: str) -> Finding:
    return Finding(Level.OK, check, sentence)


def warning(check: str, sentence: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, check, sentence, remedy)


def problem(check: str, sentence: str, remedy: str) -> Finding:
    return Finding(Level.PROBLEM, check, sentence, remedy)
