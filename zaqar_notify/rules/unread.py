"""Fields of a request that nothing reads: misspelt fields are accepted, with a warning.

Zaqar ignores what it does not know, and its clients rely on that. A misspelt `ttl` is not found until
messages are lost, so the warning names the nearest known field.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from zaqar_notify.models import JsonObject
from zaqar_notify.rules.retry_policy import POLICY_FIELDS, POLICY_KEY
from zaqar_notify.rules.sns_phases import parts_of_sns

Warn: TypeAlias = Callable[[str], None]
"""Takes a sentence for the client of the present request."""

RESERVED = "_"
"""How keys begin that mean something to the service, among those of the client's own."""

MOST_LOOKED_AT = 50
"""Names compared for one request: each takes some 50 µs."""
_LONGEST_NAME = 64
_LIKENESS = 0.65
_LIKENESS_OF_OWN_KEYS = 0.85
"""How like two names are at least (of 1) for one to be taken for the other, misspelt. `tll` is like `ttl`
by 0.67. Where clients have keys of their own, more is asked."""


def warn_of_fields(given: Iterable[str], known: Sequence[str], *, where: str, warn: Warn) -> None:
    """Say which of the fields are misspelt; others that are unknown pass."""
    for name in _looked_at(given, known):
        if nearest := _nearest(name, known, _LIKENESS):
            warn(f"{where} {name} has no effect; did you mean {nearest}?")


def warn_of_keys(given: Iterable[str], known: Sequence[str], *, where: str, warn: Warn) -> None:
    """Say which keys are reserved and unknown, or misspelt, among those that clients may make up."""
    for name in _looked_at(given, known):
        is_reserved = name.startswith(RESERVED)
        likeness = _LIKENESS if is_reserved else _LIKENESS_OF_OWN_KEYS
        if nearest := _nearest(name, known, likeness):
            warn(f"{where} {name} has no effect; did you mean {nearest}?")
        elif is_reserved:
            warn(f"{where} {name} has no effect: it is not known; known are {', '.join(known)}")


def warn_of_policy(document: JsonObject, *, warn: Warn) -> None:
    """Say which fields of a document's retry policy are unknown."""
    policy = document.get(POLICY_KEY)
    if not isinstance(policy, dict):
        return
    _warn_of_others(policy, POLICY_FIELDS, where=f"{POLICY_KEY}:", warn=warn)
    for where, part, known, elsewhere in parts_of_sns(policy, where=POLICY_KEY):
        for name, reason in elsewhere.items():
            if part.get(name) is not None:
                warn(f"{where} {name} has no effect: {reason}")
        if known:
            _warn_of_others(part, (*known, *elsewhere), where=where, warn=warn)


def _warn_of_others(given: Iterable[str], known: Sequence[str], *, where: str, warn: Warn) -> None:
    """Say which fields are unknown, where clients have none of their own."""
    for name in _looked_at(given, known):
        nearest = _nearest(name, known, _LIKENESS)
        hint = f"; did you mean {nearest}?" if nearest else ": it is not known"
        warn(f"{where} {name} has no effect{hint}")


def _looked_at(given: Iterable[str], known: Sequence[str]) -> list[str]:
    unknown = dict.fromkeys(name for name in given if name not in known)
    return [name for name in unknown if name and len(name) <= _LONGEST_NAME][:MOST_LOOKED_AT]


def _nearest(name: str, known: Sequence[str], likeness: float) -> str | None:
    # Without underscores at the ends, which make all reserved keys look alike.
    by_word = {each.strip(RESERVED): each for each in known}
    word = name.lower().strip(RESERVED)
    found = difflib.get_close_matches(word, by_word, n=1, cutoff=likeness)
    return by_word[found[0]] if found else None
