"""Query parameters and the links made of them."""

from __future__ import annotations

import json

import pytest

from api.refusals import ParameterInvalid
from api.zaqar.links import next_links
from api.zaqar.query import Query
from zaqar_notify.errors import ValidationFailed


@pytest.mark.parametrize("word", ["true", "True", "t", "yes", "y", "1", "on"])
def test_words_for_true(word: str) -> None:
    assert Query(f"echo={word}".encode()).boolean("echo") is True


@pytest.mark.parametrize("word", ["false", "False", "f", "no", "n", "0", "off"])
def test_words_for_false(word: str) -> None:
    assert Query(f"echo={word}".encode()).boolean("echo") is False


@pytest.mark.parametrize("word", ["TRUE", "None", "maybe", "2"])
def test_other_words_are_no_booleans(word: str) -> None:
    with pytest.raises(ParameterInvalid, match="echo"):
        Query(f"echo={word}".encode()).boolean("echo")


@pytest.mark.parametrize(("text", "number"), [("5", 5), ("-1", -1), ("%2B7", 7), ("007", 7)])
def test_integers_are_decimal(text: str, number: int) -> None:
    assert Query(f"limit={text}".encode()).integer("limit") == number


@pytest.mark.parametrize("text", ["x", "1.0", "1_0", "0x1", "٣", "9" * 5000, "+", "%201"])
def test_other_texts_are_no_integers(text: str) -> None:
    with pytest.raises(ParameterInvalid, match="limit"):
        Query(f"limit={text}".encode()).integer("limit")


@pytest.mark.parametrize("raw", [b"", b"limit=", b"limit", b"other=1", b"&&", b"limit=&echo="])
def test_a_blank_parameter_is_absent(raw: bytes) -> None:
    query = Query(raw)

    assert query.integer("limit") is None
    assert query.boolean("echo") is False


@pytest.mark.parametrize("raw", [b"ids=a,b", b"ids=a&ids=b", b"ids=a%2Cb"])
def test_a_list_is_repeated_or_has_commas(raw: bytes) -> None:
    assert Query(raw).words("ids") == ["a", "b"]


def test_a_list_keeps_what_was_sent_twice() -> None:
    assert Query(b"ids=a,,b,a&ids=b").words("ids") == ["a", "b", "a", "b"]


def test_the_number_of_parameters_is_bounded() -> None:
    with pytest.raises(ValidationFailed, match="100"):
        Query(b"&".join([b"a=1"] * 101))


def test_a_link_repeats_what_was_sent_with_the_new_marker_last() -> None:
    sent = Query(b"marker=old&limit=3&detailed=True&with_count=0").sent

    [link] = json.loads(next_links("/v2/queues", sent, "q02"))

    assert link == {
        "rel": "next",
        "href": "/v2/queues?limit=3&detailed=true&with_count=false&marker=q02",
    }


def test_a_link_survives_format_and_comes_back_as_it_was() -> None:
    raw = b"colour=%7Bred%7D%26%22&n%7B0%7D=%C3%A9"

    [link] = json.loads(next_links("/v2/queues", Query(raw).sent, "q.1"))

    assert link["href"].format() == link["href"]
    assert Query(link["href"].partition("?")[2].encode()).sent == (
        ("colour", '{red}&"'),
        ("n{0}", "é"),
        ("marker", "q.1"),
    )


def test_an_empty_page_has_no_link() -> None:
    assert next_links("/v2/queues", [("limit", "3")], None) == b"[]"
