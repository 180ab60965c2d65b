"""Reading JSON from clients, strictly: every reader can read accepted JSON again.

UTF-8, no NaN or Infinity, integers within signed 64 bits, other numbers within doubles, bounded depth.
Of equal keys in one object the last one counts.
"""

from __future__ import annotations

import json
import math
import re

import orjson

from zaqar_notify.errors import BodyInvalid

MAX_DEPTH = 200
"""Levels of arrays and objects; orjson writes no more than 254, and we add some around it."""

_ORJSON_TOO_DEEP = "depth limit exceeded"

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1

# An integer beyond 64 bits has at least 19 digits in a row, a number beyond doubles that or an exponent
# of three: looking for such runs costs 1 µs per KB, and spares nearly every body the precise look.
# Texts of hexadecimal digits hold many an "0e000", but seldom at their end.
_LONG_RUN = b"0" * 19
_LARGE_EXPONENT = re.compile(rb"0e\+?000+[\s,\]}]")
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789E", b"0" * 9 + b"e")

_LEAST_BYTES_TOO_DEEP = 2 * MAX_DEPTH


NOT_JSON = "The body could not be parsed as JSON"
"""Clients look for a part of it, `body could not be parsed`."""


def read_json(body: bytes) -> object:
    """The array or object in a request's body.

    Raises:
        BodyInvalid: Names the fault, and its place when that is known.
    """
    check_json_text(body)
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from error
    if not isinstance(value, dict | list):
        raise BodyInvalid("The body must be a JSON object or array")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        check_depth(value)
    return value


def check_json_text(body: bytes) -> None:
    """Refuse the faults that a parser which skips values lets pass: bad UTF-8, numbers that are too large.

    Builds no objects for nearly every body. Syntax and depth are the parser's to check.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise BodyInvalid(f"{NOT_JSON}: it is not UTF-8, at byte {error.start}") from error
    zeros = body.translate(_DIGITS_AS_ZEROS)
    # For bytes, `find` is far cheaper than `in`, which raises and drops an error inside.
    if zeros.find(_LONG_RUN) >= 0 or _LARGE_EXPONENT.search(zeros):
        _check_large_numbers(body)


def may_be_too_deep(text: bytes) -> bool:
    """Whether a part of the JSON text may be nested too deep: it is long enough, and has the brackets."""
    return len(text) > _LEAST_BYTES_TOO_DEEP and text.count(b"[") + text.count(b"{") > MAX_DEPTH


def check_depth_of_text(value: bytes) -> None:
    """Refuse a JSON text that is nested too deep; a parser that skips over values goes deeper."""
    if may_be_too_deep(value):
        try:
            check_depth(orjson.loads(value))
        except orjson.JSONDecodeError as error:
            raise _not_json(error) from error


def check_depth(value: object) -> None:
    """Refuse a value nested deeper than `MAX_DEPTH` levels of arrays and objects."""
    level = [value]
    for _ in range(MAX_DEPTH):
        children = [child for parent in level for child in _children(parent)]
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise _nested_too_deep()


def check_integers(value: object) -> None:
    """Refuse integers beyond signed 64 bits anywhere in a value."""
    level = [value]
    while level:
        for item in level:
            if isinstance(item, int) and not MIN_INTEGER <= item <= MAX_INTEGER:
                raise _integer_too_large(str(item))
        level = [child for parent in level for child in _children(parent)]


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_large_numbers(body: bytes) -> None:
    try:
        # As text: from bytes it would guess the encoding, wrong ones too.
        json.loads(
            body.decode(), parse_int=_integer_within_limits, parse_float=_number_within_limits
        )
    except json.JSONDecodeError as error:
        raise _not_json(error) from error
    except RecursionError as error:
        raise _nested_too_deep() from error


def _integer_within_limits(digits: str) -> int:
    # The length goes first: Python takes quadratic time over a number with many digits.
    if len(digits) > 20 or not MIN_INTEGER <= int(digits) <= MAX_INTEGER:
        raise _integer_too_large(digits)
    return 0


def _number_within_limits(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise BodyInvalid(f"Number {digits[:24]} is out of range: it does not fit into a double")
    return number


def _not_json(error: json.JSONDecodeError) -> BodyInvalid:
    if error.msg == _ORJSON_TOO_DEEP:
        return _nested_too_deep()
    return BodyInvalid(f"{NOT_JSON}: {error.msg}, at character {error.pos}")


def _nested_too_deep() -> BodyInvalid:
    return BodyInvalid(f"The JSON is nested deeper than {MAX_DEPTH} levels")


def _integer_too_large(digits: str) -> BodyInvalid:
    return BodyInvalid(
        f"Integer {digits[:24]} is out of range: integers go from {MIN_INTEGER} to {MAX_INTEGER}"
    )
