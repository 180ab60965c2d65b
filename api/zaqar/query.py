"""Query parameters by the contract: blank ones count as absent, and unknown ones are ignored."""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import TypeAlias
from urllib.parse import parse_qsl

from api.refusals import ParameterInvalid
from api.requests import Call
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.limits import check_range
from zaqar_notify.service import Service
from zaqar_notify.waiting import Wait

MAX_PARAMETERS = 100
MAX_REMEMBERED_BYTES = 128

TRUE = frozenset(("true", "True", "t", "yes", "y", "1", "on"))
FALSE = frozenset(("false", "False", "f", "no", "n", "0", "off"))

Parameters: TypeAlias = tuple[tuple[str, str], ...]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


class Query:
    """The parameters of one request. When a single value is repeated, the last one counts."""

    __slots__ = ("sent",)

    def __init__(self, raw: bytes) -> None:
        self.sent = _remembered(raw) if len(raw) <= MAX_REMEMBERED_BYTES else _parsed(raw)
        """Names and values in the order sent."""

    def text(self, name: str) -> str | None:
        found = None
        for sent, value in self.sent:
            if sent == name:
                found = value
        return found

    def integer(self, name: str) -> int | None:
        """The number, or None when absent.

        Raises:
            ParameterInvalid: The value is no decimal integer.
        """
        text = self.text(name)
        if text is None:
            return None
        if not _INTEGER.fullmatch(text):
            raise ParameterInvalid(f"{name} must be a decimal integer, not {text[:80]!r}")
        return int(text)

    def boolean(self, name: str) -> bool:
        """The truth value; False when absent.

        Raises:
            ParameterInvalid: The value is no word for true or false.
        """
        text = self.text(name)
        if text is None:
            return False
        if text not in TRUE and text not in FALSE:
            raise ParameterInvalid(f"{name} must be true or false, not {text[:80]!r}")
        return text in TRUE

    def words(self, name: str) -> list[str]:
        """The values of a list, separated by commas or repeated; duplicates stay."""
        return [
            word for sent, value in self.sent if sent == name for word in value.split(",") if word
        ]


def _parsed(raw: bytes) -> Parameters:
    try:
        return tuple(parse_qsl(raw.decode("latin-1"), max_num_fields=MAX_PARAMETERS))
    except ValueError as error:
        raise ValidationFailed(f"The query has more than {MAX_PARAMETERS} parameters") from error


# Most queries repeat: some always, such as `limit=10`, and some a few times, such as a claim's id.
_remembered = lru_cache(maxsize=1024)(_parsed)


def long_poll(call: Call, query: Query, service: Service) -> Wait | None:
    """The long poll of `wait=N`; None without it.

    Raises:
        ValidationFailed: N is out of range.
    """
    seconds = query.integer("wait")
    if not seconds:
        return None
    most = service.settings.max_wait_seconds
    check_range("wait", seconds, least=0, most=most, unit="seconds")
    return call.wait(seconds, partial(service.quotas.poll, call.project))
