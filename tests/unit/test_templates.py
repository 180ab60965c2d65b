"""Templates of deliveries: the placeholders that are understood, and the values that they become."""

from __future__ import annotations

import html
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.placeholders import MAX_STEPS
from zaqar_notify.rules.templates import (
    MAX_PLACEHOLDERS,
    TooLarge,
    Values,
    parse_template,
)

BODY = (
    b'{"name": "A \\"quoted\\" \\u00e9\\n", "price": 1.10, "big": 9223372036854775807, "ok": true, "none": null, '
    b'"tags": ["x", {"y": 2}], "odd key.": "odd", "0": "zero", "nested": {"name": "inner"}}'
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def values(body: bytes = BODY, attributes: bytes = b"{}") -> Values:
    return {
        "body": body,
        "attributes": attributes,
        "queue": b'"orders"',
        "project": b'"p1"',
        "notification": b'{"ttl": 60, "body": 1}',
        "message": b'{"id":"m1","ttl":60,"posted_at":"2026-01-02T03:04:05.000Z"}',
        "delivery": b'{"id":"d1","attempt":2,"sent_at":"2026-01-02T03:04:06.000Z"}',
        "subscription": b'{"id":"s1"}',
    }


def filled(document: object, **given: bytes) -> bytes:
    template = parse_template(document)
    assert template is not None
    return template.fill(values(**given), most_bytes=1_000_000)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("body.name", b'"A \\"quoted\\" \\u00e9\\n"'),
        ("body.price", b"1.10"),
        ("body.big", b"9223372036854775807"),
        ("body.ok", b"true"),
        ("body.none", b"null"),
        ("body.tags", b'["x", {"y": 2}]'),
        ("body.tags.0", b'"x"'),
        ("body.tags.1.y", b"2"),
        ('body."odd key."', b'"odd"'),
        ("body.0", b'"zero"'),
        ("body", BODY),
        ("queue", b'"orders"'),
        ("project", b'"p1"'),
        ("message.id", b'"m1"'),
        ("message.ttl", b"60"),
        ("message.posted_at", b'"2026-01-02T03:04:05.000Z"'),
        ("delivery.attempt", b"2"),
        ("subscription.id", b'"s1"'),
        ("notification", b'{"ttl": 60, "body": 1}'),
    ],
)
def test_a_string_that_is_one_placeholder_becomes_the_value_to_the_byte(
    path: str, text: bytes
) -> None:
    assert filled({"a": f"{{{{ {path} }}}}"}) == b'{"a":' + text + b"}"


@pytest.mark.parametrize(
    "path",
    ["body.missing", "body.name.x", "body.tags.2", "body.tags.x", "body.none", "attributes.x"],
)
def test_a_missing_value_is_null_nothing_or_the_default(path: str) -> None:
    document = [
        f"{{{{ {path} }}}}",
        f"<{{{{{path}}}}}>",
        f'{{{{ {path} | "a \\"b\\"" }}}}',
        f"{{{{ {path}|7 }}}} and {{{{ {path} | true}}}}",
    ]

    assert json.loads(filled(document)) == [None, "<>", 'a "b"', "7 and true"]


def test_a_default_is_not_used_for_a_value_that_is_there() -> None:
    assert filled(["{{ body.ok | false }}", "{{ body.price | 2 }}"]) == b"[true,1.10]"


def test_values_of_attributes_keep_their_types() -> None:
    attributes = (
        b'{"colour":{"type":"String","value":"bl\\u00fce"},"size":{"type":"Number","value":1.50},'
        b'"a.b":{"type":"String.Array","value":["x",2]}}'
    )
    document = ["{{ attributes.colour }}", "{{ attributes.size }}", '{{ attributes."a.b".1 }}']

    assert filled(document, attributes=attributes) == b'["bl\\u00fce",1.50,2]'


@settings(max_examples=40)
@given(value=JSON_VALUES, before=st.text(), name=st.text(min_size=1))
@example(value='"}}\\', before="\u2028<\x7f>", name='"\\')
def test_a_json_template_is_json_whatever_the_values_are(
    value: object, before: str, name: str
) -> None:
    body = json.dumps({name: value}).encode()
    path = f"{{{{ body.{json.dumps(name)} }}}}"
    before = "-" + before.replace("{", "(")
    shown = value if isinstance(value, str) else "" if value is None else json.dumps(value)

    whole, part = json.loads(filled([path, before + path], body=body))

    assert whole == value
    assert part == before + shown


@settings(max_examples=40)
@given(value=JSON_VALUES)
def test_a_text_has_values_as_text(value: object) -> None:
    body = json.dumps({"a": value}).encode()
    shown = value if isinstance(value, str) else "" if value is None else json.dumps(value)

    assert filled("<{{ body.a }}>", body=body) == f"<{shown}>".encode()


def test_values_in_a_text_are_quoted_as_the_caller_asks() -> None:
    template = parse_template("<b>{{ body.a }}</b>")
    assert template is not None

    text = template.fill(values(b'{"a": "<i>&"}'), most_bytes=100, quote=html.escape)

    assert text == b"<b>&lt;i&gt;&amp;</b>"


def test_braces_can_be_written() -> None:
    assert filled('{{ "{{" }} {{ body.ok }} }}') == b"{{ true }}"
    assert filled(['{{ "{{" }}']) == b'["{{"]'


def test_nothing_is_put_into_what_was_put_in() -> None:
    assert filled(["{{ body.a }}"], body=b'{"a": "{{ queue }}"}') == b'["{{ queue }}"]'


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing",
        "bodies.a",
        "body.",
        ".body",
        "body..a",
        "body.a b",
        "body[0]",
        'body."a',
        'body."\\q"',
        "queue.name",
        "message",
        "message.body",
        "message.id.x",
        "delivery.id.x",
        "subscription",
        "attributes",
        'attributes."a b"',
        "1 + 1",
        "body.a | upper",
        "body.a | [1]",
        "body.a | {}",
        "body.a |",
        'body.a | "\\ud800"',
        "body.a | 99999999999999999999",
        "body.a | 1 | 2",
        "{ body }",
        ".".join(["body"] + ["a"] * MAX_STEPS),
    ],
)
@pytest.mark.parametrize("is_text", [True, False])
def test_a_placeholder_that_can_never_be_filled_is_refused(path: str, is_text: bool) -> None:
    text = f"a {{{{{path}}}}} b"

    with pytest.raises(ValidationFailed, match="options: _delivery_template "):
        parse_template(text if is_text else {"a": [text]})


@pytest.mark.parametrize("text", ["{{", "{{ body", "{{ body }", "a {{ body } }", "}} {{"])
def test_a_placeholder_needs_its_end(text: str) -> None:
    with pytest.raises(ValidationFailed, match="neither"):
        parse_template(text)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (5, "must be a JSON object or array, or a text"),
        (True, "must be a JSON object or array, or a text"),
        ("", "not empty"),
        ({}, "not empty"),
        ({"{{ body }}": 1}, "has a placeholder in the name"),
        ('{"text": "{{ body }}"}', "send the object or array itself"),
        (' [ {"text": {{ body }} } ]', "send the object or array itself"),
        (["{{ body }}"] * (MAX_PLACEHOLDERS + 1), "more than 200 placeholders"),
    ],
)
def test_a_wrong_document_is_refused(document: object, fault: str) -> None:
    with pytest.raises(ValidationFailed, match=fault):
        parse_template(document)


def test_null_is_no_template() -> None:
    assert parse_template(None) is None


@pytest.mark.parametrize("document", [["{{ body }}"] * 10, "{{ body }}" * 10])
def test_the_result_is_bounded(document: object) -> None:
    template = parse_template(document)
    assert template is not None
    size = len(template.fill(values(), most_bytes=1_000_000))

    assert len(template.fill(values(), most_bytes=size)) == size
    with pytest.raises(TooLarge):
        template.fill(values(), most_bytes=size - 1)


def test_many_paths_into_one_large_body_read_each_of_its_objects_once() -> None:
    paths = [f"{{{{ body.{'.'.join('a' * (1 + number % 15))} }}}}" for number in range(200)]
    body = b"1"
    for _ in range(15):
        body = b'{"a": %b}' % body

    assert json.loads(filled(paths, body=body))[14] == 1
