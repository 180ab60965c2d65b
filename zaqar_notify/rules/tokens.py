"""The text of tenant tokens, and the patterns that confine tokens to queues.

A token is `zqn_`, 43 digits that stand for 256 random bits, and 6 check digits: the CRC-32 of what stands before
them. All digits are of base 62, so `zqn_[0-9A-Za-z]{49}` finds tokens that leaked.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from functools import lru_cache
from zlib import crc32

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import TOPIC_MARK

PREFIX = "zqn_"
DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
SECRET_BITS = 256
_SECRET_DIGITS = 43
_CHECK_DIGITS = 6
_LENGTH = len(PREFIX) + _SECRET_DIGITS + _CHECK_DIGITS

MOST_PATTERN_CHARACTERS = 64
_PATTERN = re.compile(rf"{TOPIC_MARK}?[A-Za-z0-9_.*?-]{{1,{MOST_PATTERN_CHARACTERS}}}", re.ASCII)


def new_secret() -> str:
    """The text of a new token."""
    text = PREFIX + _base62(secrets.randbits(SECRET_BITS), _SECRET_DIGITS)
    return text + _check_digits(text)


def is_token(text: str) -> bool:
    """Whether the text is a token's. False: it was cut short or mistyped."""
    if len(text) != _LENGTH or not text.startswith(PREFIX) or not text.isascii():
        return False
    return text[-_CHECK_DIGITS:] == _check_digits(text[:-_CHECK_DIGITS])


def digest_of(text: str) -> bytes:
    """The SHA-256 by which a token is stored and found."""
    return hashlib.sha256(text.encode()).digest()


def check_pattern(pattern: str) -> None:
    """
    Raises:
        ValidationFailed: It is no pattern of queue names.
    """
    if not _PATTERN.fullmatch(pattern):
        raise ValidationFailed(
            f"queue {pattern[:80]!r} is not a pattern of queue names: 1 to {MOST_PATTERN_CHARACTERS} characters of "
            f"A-Z a-z 0-9 _ - and ., where * stands for any characters, and ? for one; {TOPIC_MARK} before them makes "
            "it a pattern of topics' names"
        )


@lru_cache(maxsize=1024)
def covers(pattern: str, other: str) -> bool:
    """Whether the pattern matches a name, or every name that the other pattern matches.

    `*` stands for any characters, `?` for one. A `*` of the other pattern is matched by a `*` only. A pattern matches
    topics if it begins with `TOPIC_MARK`, else queues.
    """
    if pattern.startswith(TOPIC_MARK) != other.startswith(TOPIC_MARK):
        return False
    at = other_at = 0
    star = star_at = -1
    while other_at < len(other):
        wanted = pattern[at : at + 1]
        if wanted == "*":
            star, star_at = at, other_at
            at += 1
        elif other[other_at] != "*" and wanted in ("?", other[other_at]):
            at += 1
            other_at += 1
        elif star >= 0:
            star_at += 1
            at, other_at = star + 1, star_at
        else:
            return False
    return not pattern[at:].strip("*")


def _check_digits(text: str) -> str:
    return _base62(crc32(text.encode("ascii")), _CHECK_DIGITS)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
    return text
