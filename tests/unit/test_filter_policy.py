"""Filter policies: SNS's documented examples, its limits, and a slow obvious model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.unit.filter_model import fits
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, NewMessage
from zaqar_notify.rules.attributes import canonical
from zaqar_notify.rules.filter_policy import MOST_BYTES, MOST_TESTS, Candidate, filter_of

HALF_OF_A_CHARACTER = '"\\ud800"'


def accepts(
    policy: JsonObject, *, attributes: JsonObject | None = None, body: str | None = None
) -> bool:
    """Whether the policy accepts a message; with a body, a policy on bodies."""
    scope = "MessageAttributes" if body is None else "MessageBody"
    read = filter_of({"_filter_policy": policy, "_filter_policy_scope": scope})
    assert read is not None
    text = canonical(json.dumps(attributes or {}).encode())
    return read.accepts(Candidate(NewMessage((body or "1").encode(), 60, attributes=text)))


# The policy's entry for one name, values that it matches, and values that it does not match.
EXAMPLES: list[tuple[list[Any], list[Any], list[Any]]] = [
    (["rugby", "tennis"], ["rugby", "tennis", ["rugby", "tennis"]], ["baseball", ["baseball"]]),
    (
        [{"anything-but": ["rugby", "tennis"]}],
        ["baseball", "football", ["rugby", "baseball"]],
        ["rugby", ["rugby"], ["rugby", "tennis"]],
    ),
    ([{"anything-but": "rugby"}], ["baseball", 1], ["rugby"]),
    (
        [{"anything-but": {"prefix": "order-"}}],
        ["data-entry", "order_number"],
        ["order-cancelled"],
    ),
    ([{"anything-but": {"prefix": ["a", "b"]}}], ["c"], ["ab", "ba"]),
    ([{"anything-but": {"suffix": "ball"}}], ["rugby"], ["baseball"]),
    ([{"anything-but": {"equals-ignore-case": "Rugby"}}], ["tennis"], ["RUGBY"]),
    ([{"anything-but": {"wildcard": "*ball"}}], ["rugby"], ["baseball"]),
    ([{"equals-ignore-case": "tennis"}], ["tennis", "Tennis", "TENNIS"], ["tennis "]),
    (
        [{"cidr": "10.0.0.0/24"}],
        ["10.0.0.0", "10.0.0.255"],
        ["10.1.1.0", "10.0.0", "::ffff:10.0.0.1", "x" * 100, 1],
    ),
    ([{"cidr": "2001:db8::/32"}], ["2001:db8::1"], ["2001:db9::1", "10.0.0.1"]),
    ([{"prefix": "bas"}], ["baseball", "basketball", "bas"], ["rugby", "abas", 1]),
    ([{"suffix": "ball"}], ["baseball", "ball"], ["rugby", "balls", 1]),
    ([{"wildcard": "*ball"}], ["baseball", "ball"], ["rugby", "balls"]),
    ([{"wildcard": "a*b*c"}], ["abc", "a-b-b-c"], ["acb", "abcd", "ac"]),
    ([{"wildcard": "a*a"}], ["aa", "aba"], ["a"]),
    ([{"wildcard": "abc"}], ["abc"], ["abcd"]),
    ([{"wildcard": r"a\*b\\*"}], [r"a*b\ and more"], [r"axb\ ", "a*b"]),
    ([{"numeric": ["=", 301.5]}], [301.5, 3.015e2], [301.4, "301.5"]),
    ([{"anything-but": [100, 500]}], [101, 100.1, [100, 50]], [100, 500, [100, 500], 100.0]),
    ([{"numeric": ["<", 0]}], [-0.00001, -5], [0, 1]),
    ([{"numeric": [">", 0, "<=", 150]}], [0.00001, 150], [0, 150.00001]),
    ([{"numeric": [">=", 0, "<", 150]}], [0, 149.99999], [150]),
    ([100], [100, 100.0, 100.000001, [7, 100]], [101, "100"]),
    (["100"], ["100"], [100]),
    ([0.1], [0.1, 0.1000000001], [0.10001]),
    ([True], [[True]], ["true", 1, [1], [False]]),
    ([None], [[None]], ["null", [0], [False], "x"]),
    ([{"exists": True}], ["fans", 1, ["a"]], []),
    ([{"exists": False}, "fans"], ["fans"], ["others"]),
]


@pytest.mark.parametrize(("entry", "matching", "others"), EXAMPLES)
def test_documented_examples_on_attributes(
    entry: list[Any], matching: list[Any], others: list[Any]
) -> None:
    policy = {"name": entry}

    for value in matching:
        assert accepts(policy, attributes={"name": value, "other": 1}), value
    for value in others:
        assert not accepts(policy, attributes={"name": value, "other": 1}), value


@pytest.mark.parametrize(("entry", "matching", "others"), EXAMPLES)
def test_documented_examples_on_bodies(
    entry: list[Any], matching: list[Any], others: list[Any]
) -> None:
    for value in matching:
        assert accepts({"name": entry}, body=json.dumps({"name": value, "other": 1})), value
        assert accepts({"a": {"b": entry}}, body=json.dumps({"a": {"b": value}})), value
    for value in others:
        assert not accepts({"name": entry}, body=json.dumps({"name": value})), value


def test_a_name_that_is_absent_matches_nothing_but_exists_false() -> None:
    for entry in (["x"], [None], [{"anything-but": "x"}], [{"exists": True}]):
        assert not accepts({"name": entry}, attributes={"other": 1})
    assert accepts({"name": [{"exists": False}]}, attributes={"other": 1})
    assert accepts({"name": [{"exists": False}]})


def test_binary_attributes_are_ignored() -> None:
    binary = {"name": {"type": "Binary", "value": "aGk="}}

    assert not accepts({"name": ["aGk="]}, attributes=binary)
    assert not accepts({"name": [{"exists": True}]}, attributes=binary)


def test_all_names_have_to_fit() -> None:
    policy = {"customer_interests": ["rugby"], "price_usd": [{"numeric": [">", 100]}]}

    assert accepts(policy, attributes={"customer_interests": "rugby", "price_usd": 100.1})
    assert not accepts(policy, attributes={"customer_interests": "rugby", "price_usd": 100})
    assert not accepts(policy, attributes={"price_usd": 101})


@pytest.mark.parametrize(
    ("attributes", "is_accepted"),
    [
        ({"source": "aws.cloudwatch", "metricName": "CPUUtilization"}, True),
        ({"source": "aws.cloudwatch", "namespace": "AWS/EC2"}, True),
        ({"source": "aws.cloudwatch", "metricName": "CPUUtilization", "namespace": "AWS/ES"}, True),
        ({"source": "aws.cloudwatch", "namespace": "AWS/ES"}, False),
        ({"source": "aws.events", "metricName": "CPUUtilization"}, False),
    ],
)
def test_one_alternative_of_an_or_has_to_fit(attributes: dict[str, Any], is_accepted: bool) -> None:
    policy = {
        "source": ["aws.cloudwatch"],
        "$or": [{"metricName": ["CPUUtilization"]}, {"namespace": ["AWS/EC2"]}],
    }

    assert accepts(policy, attributes=attributes) is is_accepted
    assert accepts(policy, body=json.dumps(attributes)) is is_accepted


def test_an_or_in_a_nested_key_is_about_the_keys_beside_it() -> None:
    policy = {"a": {"$or": [{"b": [1]}, {"c": [2], "d": [{"exists": False}]}]}}

    assert accepts(policy, body='{"a": {"c": 2}}')
    assert not accepts(policy, body='{"a": {"c": 2, "d": 3}}')
    assert not accepts(policy, body='{"b": 1}')


def test_an_or_with_operators_is_an_ordinary_name() -> None:
    policy = {"$or": [{"prefix": "a"}, {"suffix": "b"}]}

    assert accepts(policy, body='{"$or": "ax"}')
    assert not accepts(policy, body='{"prefix": "a"}')


def test_of_an_array_of_objects_one_has_to_fit_all_keys() -> None:
    policy = {
        "Records": {
            "s3": {"object": {"key": [{"prefix": "auto-"}]}},
            "eventName": [{"prefix": "ObjectCreated:"}],
        }
    }

    def body(*records: tuple[str, str]) -> str:
        found = [{"s3": {"object": {"key": key}}, "eventName": name} for key, name in records]
        return json.dumps({"Records": found})

    assert accepts(policy, body=body(("x", "ObjectRemoved:"), ("auto-1", "ObjectCreated:Put")))
    assert not accepts(policy, body=body(("auto-1", "ObjectRemoved:"), ("x", "ObjectCreated:Put")))
    assert not accepts(policy, body=body())


@pytest.mark.parametrize("body", ['"text"', "[1]", "1", "null", '"{\\"a\\": 1}"'])
def test_a_body_that_is_no_object_fits_no_policy(body: str) -> None:
    assert not accepts({"a": [{"exists": False}]}, body=body)


def test_a_body_with_half_a_character_is_read_all_the_same() -> None:
    assert accepts({"a": [1]}, body=f'{{"a": 1, "b": {HALF_OF_A_CHARACTER}}}')


@pytest.mark.parametrize(("values", "is_decided"), [(MOST_TESTS // 10, True), (MOST_TESTS, False)])
def test_a_message_that_takes_too_many_tests_is_accepted_and_told(
    values: int, is_decided: bool
) -> None:
    policy = filter_of(
        {
            "_filter_policy": {"a": {"b": [{"prefix": f"x{number}"} for number in range(9)]}},
            "_filter_policy_scope": "MessageBody",
        }
    )
    told: list[str] = []
    body = json.dumps({"a": [{"b": "y"}] * values}).encode()

    assert policy is not None
    accepted = policy.accepts(
        Candidate(NewMessage(body, 60)), undecided=lambda: told.append("undecided")
    )

    assert (accepted, told) == ((False, []) if is_decided else (True, ["undecided"]))


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ({"anything-but": {"prefix": [*["b"] * (MOST_TESTS // 10), "a"]}}, ["a"] * 10),
        ({"anything-but": {"wildcard": ["*b*"] * 100}}, "a" * 200_000),
        ({"exists": False}, ["a"] * 2 * MOST_TESTS),
    ],
    ids=["each string", "each block of a long text", "no value"],
)
def test_tests_are_counted_by_the_work_that_they_take(
    condition: dict[str, object], value: object
) -> None:
    policy = filter_of(
        {"_filter_policy": {"a": [condition]}, "_filter_policy_scope": "MessageBody"}
    )
    told: list[str] = []
    body = json.dumps({"a": value}).encode()

    assert policy is not None
    policy.accepts(Candidate(NewMessage(body, 60)), undecided=lambda: told.append("undecided"))

    assert bool(told) == ("exists" not in condition)


def test_the_deepest_policy_that_is_permitted_is_evaluated() -> None:
    policy, body = json.loads('{"a":' * 150 + "[1]" + "}" * 150), '{"a":' * 150 + "1" + "}" * 150

    assert accepts(policy, body=body)


@pytest.mark.parametrize("policy", [None, {}])
def test_without_a_policy_there_is_no_filter(policy: object) -> None:
    assert filter_of({"_filter_policy": policy}) is None
    assert filter_of({}) is None


@pytest.mark.parametrize(
    ("policy", "scope", "complaint"),
    [
        ([], None, "_filter_policy must be an object"),
        ("x", None, "_filter_policy must be an object"),
        ({"a": ["x"]}, "Body", "_filter_policy_scope must be MessageAttributes or MessageBody"),
        (None, "Body", "_filter_policy_scope must be MessageAttributes or MessageBody"),
        ({"a": "x"}, None, "_filter_policy: a must be an array of at least one condition"),
        ({"a": []}, None, "_filter_policy: a must be an array of at least one condition"),
        ({"a": {"b": ["x"]}}, None, "a must be an array; objects are for _filter_policy_scope"),
        ({"a": {"b": "x"}}, "MessageBody", "_filter_policy: a.b must be an array"),
        ({"a": {}}, "MessageBody", "_filter_policy: a must have at least one key"),
        ({"a b": ["x"]}, None, "_filter_policy: a b can be no attribute of a message"),
        ({"$or": [{"a": ["x"]}]}, None, "_filter_policy: $or can be no attribute"),
        ({"$or": [{"a": ["x"]}, {"b": []}]}, None, "_filter_policy: $or.b must be an array"),
        ({"a": [["x"]]}, None, "a must have strings, numbers, true, false, null or operators"),
        ({"a": [{}]}, None, "a must have one operator in each object, not 0"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, None, "one operator in each object, not 2"),
        ({"a": [{"regex": "x"}]}, None, "a has the operator 'regex'; there are exists, prefix"),
        ({"a": [{"exists": "yes"}]}, None, "a must have true or false for exists"),
        ({"a": [{"prefix": 1}]}, None, "a must have a string for prefix"),
        ({"a": [{"suffix": None}]}, None, "a must have a string for suffix"),
        ({"a": [{"equals-ignore-case": ["x"]}]}, None, "a string for equals-ignore-case"),
        ({"a": [{"anything-but": []}]}, None, "strings and numbers in anything-but"),
        ({"a": [{"anything-but": [None]}]}, None, "strings and numbers in anything-but"),
        ({"a": [{"anything-but": {"numeric": ["=", 1]}}]}, None, "must have one of prefix, suffix"),
        ({"a": [{"anything-but": {"prefix": []}}]}, None, "at least one string for prefix"),
        ({"a": [{"anything-but": {"prefix": [1]}}]}, None, "must have a string for prefix"),
        ({"a": [{"cidr": "10.0.0.0"}]}, None, "must have a block with a length for cidr"),
        ({"a": [{"cidr": "10.0.0.0/33"}]}, None, "must have an address block for cidr"),
        ({"a": [{"cidr": 1}]}, None, "must have a string for cidr"),
        ({"a": [{"wildcard": "a**"}]}, None, "two * side by side in wildcard"),
        ({"a": [{"wildcard": "*a*b*c*"}]}, None, "at most 3 * in a wildcard"),
        ({"a": [{"wildcard": r"a\b"}]}, None, r"only \* and \\ as escapes"),
        ({"a": [{"wildcard": "a\\"}]}, None, r"only \* and \\ as escapes"),
        ({"a": [{"numeric": []}]}, None, "one or two comparisons in numeric"),
        ({"a": [{"numeric": 1}]}, None, "one or two comparisons in numeric"),
        ({"a": [{"numeric": ["=", 1, "<"]}]}, None, "one or two comparisons in numeric"),
        ({"a": [{"numeric": ["!=", 1]}]}, None, "compares by '!=' in numeric"),
        ({"a": [{"numeric": [["="], 1]}]}, None, "in numeric; there are = < <= > >="),
        ({"a": [{"numeric": ["=", "1"]}]}, None, "must compare with numbers"),
        ({"a": [{"numeric": ["=", True]}]}, None, "must compare with numbers"),
        ({"a": [{"numeric": ["<", 9, ">", 1]}]}, None, "the lower bound, > or >=, before"),
        ({"a": [{"numeric": [">", 9, "<", 1]}]}, None, "the lower bound, > or >=, before"),
        ({"a": [{"numeric": [">", 1, "=", 2]}]}, None, "the lower bound, > or >=, before"),
        ({"a": [1_000_000_001]}, None, "numbers from -1000000000 to 1000000000"),
        ({"a": [{"numeric": ["<", -1e10]}]}, None, "numbers from -1000000000 to 1000000000"),
        ({"a": [0.000001]}, None, "at most 5 digits behind the point"),
        ({f"n{number}": [1] for number in range(6)}, None, "has 6 names; at most 5 are allowed"),
        ({"a": ["x" * MOST_BYTES]}, None, f"at most {MOST_BYTES} are allowed"),
    ],
)
def test_what_is_no_policy_is_refused_with_its_place(
    policy: object, scope: object, complaint: str
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        filter_of({"_filter_policy": policy, "_filter_policy_scope": scope})

    assert str(refused.value).startswith("options: _filter_policy")
    assert complaint in str(refused.value)


def values(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize(
    ("policy", "combinations"),
    [
        ({"key_a": values(3), "key_b": values(1), "key_c": values(2)}, 6),
        ({"key_a": {"key_b": {"key_c": values(4)}}, "key_d": {"key_e": values(3)}}, 72),
        ({"source": values(1), "$or": [{"a": values(2)}, {"b": values(3)}]}, 5),
        ({"a": values(150)}, 150),
        ({"a": values(151)}, 151),
        ({"a": values(2), "$or": [{"b": values(38)}, {"c": values(38)}]}, 152),
        ({"a": {"b": {"c": values(51)}}}, 153),
    ],
)
def test_combinations_are_counted_as_by_sns(policy: JsonObject, combinations: int) -> None:
    options = {"_filter_policy": policy, "_filter_policy_scope": "MessageBody"}

    if combinations <= 150:
        assert filter_of(options) is not None
        return
    with pytest.raises(ValidationFailed, match=f"{combinations} combinations of values; at most"):
        filter_of(options)


_WORDS = st.text("ab*\\.é", max_size=4)
_NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.5, 0.00001, -0.00001, 2.000005, 1.000015, 1e9, 12345.67891, 1e22]),
)
_POLICY_NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 0.00001, 2.00001, 1e9]))
_SCALARS = st.one_of(
    _WORDS, _NUMBERS, st.booleans(), st.none(), st.sampled_from(["10.0.0.1", "::1"])
)
_NAMES = st.sampled_from(["a", "b", "c"])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*")


_WILDCARDS = st.lists(_WORDS.filter(bool).map(_escaped), min_size=1, max_size=3).map("*".join)
_LIKE = st.one_of(
    st.tuples(st.sampled_from(["prefix", "suffix", "equals-ignore-case"]), _WORDS),
    st.tuples(st.just("wildcard"), _WILDCARDS),
).map(lambda pair: dict([pair]))
_RANGES = (
    st.lists(_POLICY_NUMBERS, min_size=2, max_size=2, unique=True)
    .map(sorted)
    .flatmap(
        lambda ends: st.tuples(
            st.sampled_from([">", ">="]),
            st.just(ends[0]),
            st.sampled_from(["<", "<="]),
            st.just(ends[1]),
        )
    )
)
_CONDITIONS = st.one_of(
    _WORDS,
    _POLICY_NUMBERS,
    st.booleans(),
    st.none(),
    _LIKE,
    st.booleans().map(lambda wanted: {"exists": wanted}),
    st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "::/64"]).map(lambda block: {"cidr": block}),
    st.one_of(
        st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), _POLICY_NUMBERS), _RANGES
    ).map(lambda comparison: {"numeric": list(comparison)}),
    st.one_of(
        _WORDS, st.lists(st.one_of(_WORDS, _POLICY_NUMBERS), min_size=1, max_size=3), _LIKE
    ).map(lambda excluded: {"anything-but": excluded}),
)
_ENTRIES = st.lists(_CONDITIONS, min_size=1, max_size=3)


def _with_or(policies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    alternatives = st.lists(policies, min_size=2, max_size=2).map(lambda each: {"$or": each})
    return st.one_of(policies, st.tuples(policies, alternatives).map(lambda two: two[0] | two[1]))


_FLAT_POLICIES = _with_or(st.dictionaries(_NAMES, _ENTRIES, min_size=1, max_size=2))
_POLICIES = _with_or(
    st.recursive(
        st.dictionaries(_NAMES, _ENTRIES, min_size=1, max_size=2),
        lambda inner: st.dictionaries(
            _NAMES, st.one_of(_ENTRIES, _with_or(inner)), min_size=1, max_size=2
        ),
        max_leaves=4,
    )
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)
    ),
    max_leaves=8,
)


def _is_permitted(policy: JsonObject) -> bool:
    """Whether the policy is not too complex."""
    try:
        filter_of({"_filter_policy": policy, "_filter_policy_scope": "MessageBody"})
    except ValidationFailed as refused:
        return "combinations" not in str(refused)
    return True


@example({"a": {"b": [{"exists": False}]}}, {"a": []})
@example({"a": {"b": [1]}}, {"a": [[{"b": 2}], {"b": [0, [1]]}]})
@given(_POLICIES, st.dictionaries(_NAMES, _VALUES, max_size=3))
def test_policies_on_bodies_do_as_the_model_does(policy: JsonObject, body: JsonObject) -> None:
    assume(_is_permitted(policy))

    assert accepts(policy, body=json.dumps(body)) is fits(policy, body)


_ATTRIBUTES = st.one_of(
    _WORDS.filter(bool),
    _NUMBERS.filter(lambda number: number != 1e22),
    st.lists(_SCALARS, min_size=1, max_size=3),
)


@given(_FLAT_POLICIES, st.dictionaries(_NAMES, _ATTRIBUTES, max_size=3))
def test_policies_on_attributes_do_as_the_model_does(
    policy: JsonObject, attributes: JsonObject
) -> None:
    assert accepts(policy, attributes=attributes) is fits(policy, attributes)
