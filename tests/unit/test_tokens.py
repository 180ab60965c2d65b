"""The text of tenant tokens, and patterns of queues."""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from zaqar_notify.rules.tokens import DIGITS, PREFIX, covers, digest_of, is_token, new_secret

SECRETS = st.builds(new_secret)
NAMES = st.text("ab.", max_size=6)
PATTERNS = st.text("ab.*?", min_size=1, max_size=6)


@given(SECRETS)
def test_a_token_is_found_by_its_form_and_stands_for_its_sha_256(secret: str) -> None:
    assert re.fullmatch(r"zqn_[0-9A-Za-z]{49}", secret)
    assert is_token(secret)
    assert digest_of(secret) == hashlib.sha256(secret.encode()).digest()


def test_every_token_is_another() -> None:
    assert len({new_secret() for _ in range(1000)}) == 1000


@given(SECRETS, st.data())
def test_a_mistyped_token_is_recognised(secret: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(len(PREFIX), len(secret) - 1))
    typed = data.draw(st.sampled_from(DIGITS.replace(secret[place], "")))

    assert not is_token(secret[:place] + typed + secret[place + 1 :])


@given(SECRETS, st.integers(0, 52))
def test_a_truncated_token_is_recognised(secret: str, length: int) -> None:
    assert not is_token(secret[:length])
    assert length == 0 or not is_token(secret[length:])


@given(st.text())
def test_other_text_is_no_token(text: str) -> None:
    assert not is_token(text)
    assert not is_token(PREFIX + text)


@given(PATTERNS, NAMES)
def test_a_pattern_covers_the_names_that_a_shell_would_match(pattern: str, name: str) -> None:
    assert covers(pattern, name) == fnmatchcase(name, pattern)


@given(PATTERNS, PATTERNS, NAMES)
def test_a_pattern_that_covers_another_covers_all_its_names(
    wide: str, narrow: str, name: str
) -> None:
    if covers(wide, narrow) and covers(narrow, name):
        assert covers(wide, name)


def test_a_pattern_covers_itself_and_narrower_ones() -> None:
    assert covers("orders.*", "orders.*")
    assert covers("orders.*", "orders.eu.*")
    assert covers("orders.?", "orders.1")
    assert not covers("orders.?", "orders.*")
    assert not covers("orders.*", "orders*")
    assert not covers("orders.*", "*")
    assert covers("*", "**?")


def test_a_pattern_of_many_stars_is_matched_at_once() -> None:
    assert not covers("*a" * 32, "a" * 31 + "b" * 33)
