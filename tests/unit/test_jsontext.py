"""Reading JSON strictly."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaqar_notify.errors import BodyInvalid
from zaqar_notify.rules.jsontext import (
    MAX_DEPTH,
    MAX_INTEGER,
    MIN_INTEGER,
    check_depth_of_text,
    check_integers,
    check_json_text,
    read_json,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(MIN_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab01"), inner),
    max_leaves=8,
)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"1" + b"]" * (depth - 1) + b"}"


@given(value=st.lists(JSON) | st.dictionaries(st.text("xyz"), JSON))
def test_whatever_json_can_say_is_read_as_it_was_written(value: object) -> None:
    assert read_json(json.dumps(value).encode()) == value
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "could not be parsed as JSON"),
        (b" ", "could not be parsed as JSON"),
        (b"{", "could not be parsed as JSON"),
        (b'{"a": tru}', "at character"),
        (b"[1,]", "at character"),
        (b'{"a": 1} x', "at character"),
        (b"{'a': 1}", "at character"),
        (b'["\\ud800"]', "at character"),
        (b'["a\x01"]', "at character"),
        (b"[NaN]", "at character"),
        (b"[Infinity]", "at character"),
        (b"[-Infinity]", "at character"),
        (b"[1e400]", "does not fit into a double"),
        (b"\xef\xbb\xbf[]", "byte order mark"),
        (b'["ab\xff"]', "not UTF-8, at byte 4"),
        (b'["\xed\xa0\x80"]', "not UTF-8, at byte 2"),
        (b"[1111111111111111111", "could not be parsed as JSON"),
        (b"[\x00" + b"9" * 20 + b"]]]", "could not be parsed as JSON"),
        (b"1", "object or array"),
        (b'"x"', "object or array"),
        (b"null", "object or array"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(body: bytes, named: str) -> None:
    with pytest.raises(BodyInvalid, match=named):
        read_json(body)


@pytest.mark.parametrize(
    "number",
    [
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "1" * 5000,
        "-" + "1" * 5000,
    ],
)
@pytest.mark.parametrize("form", ["[%s]", '{"a": {"b": [0, %s]}}', '{"a": "%s", "b": %s}'])
def test_an_integer_beyond_64_bits_is_refused(number: str, form: str) -> None:
    body = form.replace("%s", number).encode()

    with pytest.raises(BodyInvalid, match="from -9223372036854775808 to 9223372036854775807"):
        read_json(body)
    with pytest.raises(BodyInvalid):
        check_json_text(body)


@pytest.mark.parametrize(
    "text",
    [
        "[9223372036854775807]",
        "[-9223372036854775808]",
        '["18446744073709551616"]',
        '{"18446744073709551616": 1}',
        "[0.18446744073709551616]",
        "[18446744073709551616.5]",
        "[18446744073709551616e0]",
        '["\\"18446744073709551616"]',
    ],
)
def test_long_digits_elsewhere_are_fine(text: str) -> None:
    assert read_json(text.encode()) == json.loads(text)
    check_json_text(text.encode())


@pytest.mark.parametrize(
    "number", ["1e309", "-1E309", "1.5e+400", "10e308", "1e1000", "9" * 400 + ".0"]
)
@pytest.mark.parametrize("form", ["[%s]", '{"a": {"b": [0, %s ]}}', '{"a": "%s", "b": %s}'])
def test_a_number_beyond_doubles_is_refused(number: str, form: str) -> None:
    with pytest.raises(BodyInvalid, match="does not fit into a double"):
        check_json_text(form.replace("%s", number).encode())


@pytest.mark.parametrize(
    "text", ["[1e308]", "[1e-400]", '["1e400"]', '{"1e400": 1}', '["a 1e400,"]']
)
def test_large_exponents_elsewhere_are_fine(text: str) -> None:
    check_json_text(text.encode())


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH])
def test_a_text_may_be_nested_up_to_the_limit(depth: int) -> None:
    check_depth_of_text(nested(depth))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
def test_a_text_nested_deeper_is_refused(depth: int) -> None:
    with pytest.raises(BodyInvalid, match=f"deeper than {MAX_DEPTH} levels"):
        check_depth_of_text(nested(depth))


def test_many_brackets_side_by_side_in_a_text_are_not_deep() -> None:
    check_depth_of_text(b"[" + b"[]," * 1000 + b"{}]")


@given(number=st.integers(-(2**70), 2**70))
def test_exactly_the_integers_of_64_bits_are_accepted(number: int) -> None:
    accepted = True
    try:
        check_json_text(b"[%d]" % number)
    except BodyInvalid:
        accepted = False

    assert accepted is (-(2**63) <= number < 2**63)


def test_of_equal_keys_the_last_one_counts() -> None:
    assert read_json(b'{"a": 1, "a": 2}') == {"a": 2}


def test_depth_is_limited() -> None:
    assert read_json(nested(MAX_DEPTH))

    for body in (
        nested(MAX_DEPTH + 1),
        nested(900),
        nested(100_000),
        b"[" * 100_000,
        b"[1111111111111111111," * 10_000,
    ):
        with pytest.raises(BodyInvalid, match="deeper than 200 levels"):
            read_json(body)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert read_json(b"[" + b"[]," * 1000 + b'"[[["]')


def test_integers_are_checked_in_values_too() -> None:
    check_integers({"a": [MAX_INTEGER, MIN_INTEGER, True, math.pi, {"b": None}]})

    with pytest.raises(BodyInvalid, match="out of range"):
        check_integers({"a": [{"b": MAX_INTEGER + 1}]})
