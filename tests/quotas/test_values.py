"""Values of quotas as people and programs write them."""

from __future__ import annotations

import pytest

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.quotas import MOST, NAMES, check_values, read_words


def test_words_become_values_and_default_takes_one_back() -> None:
    values = check_values(read_words(["queues=5", "stored_bytes=0", "long_polls=default"]))

    assert values == {"queues": 5, "stored_bytes": 0, "long_polls": None}


def test_the_range_is_closed() -> None:
    assert check_values({"queues": MOST, "subscriptions": 0}) == {
        "queues": MOST,
        "subscriptions": 0,
    }


@pytest.mark.parametrize(
    "word",
    [
        "queues=-1",
        "queues=many",
        "queues=",
        "queues=1.5",
        "queues=1e3",
        "queues= 5",
        "queues=٣",
        "queues=5=5",
        "queues=None",
        f"queues={MOST + 1}",
        f"queues={10**30}",
    ],
)
def test_words_that_are_no_number_in_range_are_refused_with_the_range(word: str) -> None:
    with pytest.raises(ValidationFailed, match=f"queues must be a whole number from 0 to {MOST}"):
        check_values(read_words([word]))


def test_a_word_without_a_value_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="'queues' is not of the form NAME=VALUE"):
        read_words(["queues"])


@pytest.mark.parametrize("name", ["queus", "", "Queues", "__class__", "queues\0", "x" * 100_000])
def test_an_unknown_name_is_refused_with_the_known_ones_and_cut_short(name: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        check_values({"long_polls": 1, name: 1})

    assert ", ".join(NAMES) in str(refused.value)
    assert len(str(refused.value)) < 400
