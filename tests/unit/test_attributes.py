"""Attributes of messages: their types, their names, and the canonical text of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.attributes import (
    MOST_ATTRIBUTES,
    MOST_BYTES,
    Attribute,
    canonical,
    read_attributes,
)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ('"blue"', '{"type":"String","value":"blue"}'),
        (' "é\\n" ', '{"type":"String","value":"\\u00e9\\n"}'),
        ('{"type":"String","value":"1"}', '{"type":"String","value":"1"}'),
        ("3", '{"type":"Number","value":3}'),
        ("-1.50e+2", '{"type":"Number","value":-1.50e+2}'),
        ('{"type":"Number","value":"12.50"}', '{"type":"Number","value":12.50}'),
        ('["a", 1.0 ,true,null]', '{"type":"String.Array","value":["a",1.0,true,null]}'),
        (
            '{ "value" : [false], "type" : "String.Array" }',
            '{"type":"String.Array","value":[false]}',
        ),
        ('{"type":"Binary","value":"aGk="}', '{"type":"Binary","value":"aGk="}'),
    ],
)
def test_each_value_is_kept_with_its_type_and_numbers_as_they_were_written(
    given: str, kept: str
) -> None:
    assert canonical(f'{{"a":{given}}}'.encode()) == f'{{"a":{kept}}}'.encode()


@pytest.mark.parametrize("text", [b"null", b"{}", b"{ }"])
def test_no_attributes_are_none(text: bytes) -> None:
    assert canonical(text) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "attributes must be an object"),
        ('"a"', "attributes must be an object"),
        ('{"a":true}', "a must be a string, a number, an array, or an object"),
        ('{"a":null}', "a must be a string, a number, an array, or an object"),
        ('{"a":""}', "a must be a string of at least one character"),
        ('{"a":{}}', 'a must have the fields "type", a string, and "value"'),
        ('{"a":{"type":"String","value":"x","other":1}}', "and no other"),
        (
            '{"a":{"type":"string","value":"x"}}',
            "it must be one of String, String.Array, Number, Binary",
        ),
        ('{"a":{"type":"String","value":1}}', "a must be a string"),
        ('{"a":{"type":"Number","value":"one"}}', "a must be a JSON number"),
        ('{"a":{"type":"Number","value":"01"}}', "a must be a JSON number"),
        ('{"a":{"type":"Number","value":"%s"}}' % ("1" * 65), "at most 64 characters"),
        ('{"a":{"type":"Number","value":"%s"}}' % ("1" * 20), "out of range"),
        ('{"a":[]}', "a must be an array of at least one"),
        ('{"a":[[1]]}', "a must be an array of at least one"),
        ('{"a":[{"b":1}]}', "a must be an array of at least one"),
        ('{"a":{"type":"Binary","value":"a"}}', "a must be base64"),
        ('{"":1}', "'' is no name"),
        ('{"a b":1}', "'a b' is no name: it must be 1 to 256 characters of A-Z a-z 0-9 _ - ."),
        ('{"a\\r\\nX-Other":1}', "is no name"),
        ('{".a":1}', "'.a' is no name"),
        ('{"a.":1}', "'a.' is no name"),
        ('{"a..b":1}', "'a..b' is no name"),
        ('{"AWS.a":1}', "not beginning with AWS. or Amazon."),
        ('{"amazon.a":1}', "not beginning with AWS. or Amazon."),
        ('{"%s":1}' % ("a" * 257), "is no name"),
    ],
)
def test_what_is_no_attribute_is_refused_with_a_sentence(text: str, complaint: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        canonical(text.encode())

    assert complaint in str(refused.value)


def test_their_number_is_bounded() -> None:
    allowed = {f"n{number}": 1 for number in range(MOST_ATTRIBUTES)}

    assert canonical(json.dumps(allowed).encode())
    with pytest.raises(ValidationFailed, match="attributes are 11; a message has at most 10"):
        canonical(json.dumps({**allowed, "one_more": 1}).encode())


def test_their_size_is_bounded() -> None:
    around = len('{"a":{"type":"String","value":""}}')
    longest = "x" * (MOST_BYTES - around)

    assert len(canonical(json.dumps({"a": longest}).encode()) or b"") == MOST_BYTES
    with pytest.raises(ValidationFailed, match=f"at most {MOST_BYTES} are allowed"):
        canonical(json.dumps({"a": longest + "x"}).encode())


_NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}(\.[A-Za-z0-9_-]{1,20})?", fullmatch=True)
_ITEMS = st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none())
_VALUES = st.one_of(st.text(min_size=1), st.integers(-9, 9), st.lists(_ITEMS, min_size=1))


@given(st.dictionaries(_NAMES, _VALUES, min_size=1, max_size=3))
def test_the_canonical_text_means_the_same_is_safe_in_a_header_and_stays(
    values: dict[str, object],
) -> None:
    text = canonical(json.dumps(values).encode())

    assert text is not None
    assert {name: one.value for name, one in read_attributes(text).items()} == values
    assert text.decode().isascii()
    assert text.decode().isprintable()
    assert canonical(text) == text


def test_attributes_are_read_with_their_types() -> None:
    text = b'{"a":{"type":"Binary","value":"aGk="}}'

    assert read_attributes(text) == {"a": Attribute("Binary", "aGk=")}
    assert read_attributes(None) == {}
