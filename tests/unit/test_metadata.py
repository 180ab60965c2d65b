"""A queue's metadata: stored, shown, patched and read."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaqar_notify.errors import BodyInvalid, MetadataConflict, ValidationFailed
from zaqar_notify.metadata import (
    ENCRYPT,
    MessageRules,
    PatchStep,
    checked,
    dead_letter,
    message_rules,
    patched,
    rules_of,
    shown,
)
from zaqar_notify.models import DeadLetter, JsonObject, QueueRef
from zaqar_notify.settings import Settings

SETTINGS = Settings(default_message_delay=0)
KEY = f"k1:{base64.b64encode(bytes(32)).decode()}"
DEFAULTS: JsonObject = {
    "_max_messages_post_size": 262144,
    "_default_message_ttl": 3600,
    "_default_message_delay": 0,
    "_dead_letter_queue": None,
    "_dead_letter_queue_messages_ttl": None,
    "_max_claim_count": None,
    "_enable_encrypt_messages": False,
}
REF = QueueRef("p1", "q1")

keys = st.sampled_from([*DEFAULTS, "_retry_policy", "_flavor", "a", "b", "a/b~c"])
values = st.sampled_from([None, True, 0, 60, 5, "", "dlq", {}, {"x": [1]}, 10**6, -1])
metadata_objects = st.dictionaries(keys, values)


def is_storable(metadata: JsonObject) -> bool:
    try:
        checked(metadata, SETTINGS)
    except ValidationFailed:
        return False
    return True


def patch(metadata: JsonObject, *operations: tuple[Any, ...]) -> JsonObject:
    return patched(metadata, [PatchStep(*operation) for operation in operations], SETTINGS)


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        ("_default_message_ttl", [60, 1209600]),
        ("_max_messages_post_size", [1, 262144]),
        ("_default_message_delay", [0, 900]),
        ("_dead_letter_queue", ["d", "d" * 64]),
        ("_dead_letter_queue_messages_ttl", [60, 1209600]),
        ("_max_claim_count", [0, 1, 2**63 - 1]),
        ("_enable_encrypt_messages", [False]),
        ("_retry_policy", [{}, {"minimum_delay": 1}]),
        ("_flavor", ["gold", "", 5, {"any": "thing"}]),
        ("mine", ["", 0, True, [], {"deep": [{"er": None}]}]),
        ("_mine", ["", 1.5]),
    ],
)
def test_metadata_within_the_limits_is_kept_as_it_is(key: str, accepted: list[object]) -> None:
    for value in [None, *accepted]:
        assert checked({key: value}, SETTINGS) == {key: value}


@pytest.mark.parametrize(
    ("key", "refused", "named"),
    [
        ("_default_message_ttl", [59, 0, -1, 1209601], "integer from 60 to 1209600 seconds"),
        ("_default_message_ttl", ["", "60", 60.0, True, [], {}, False], "integer from 60"),
        ("_max_messages_post_size", [0, 262145, "", True, 1.0], "integer from 1 to 262144 bytes"),
        ("_default_message_delay", [-1, 901, "", True, False], "integer from 0 to 900 seconds"),
        ("_dead_letter_queue", ["", "a b", "d\n", "d" * 65, 5, True, ["d"]], "queue name"),
        ("_dead_letter_queue_messages_ttl", [59, 1209601, ""], "from 60 to 1209600 seconds"),
        ("_max_claim_count", [-1, "3", True, 1.0, ""], "integer from 0 .* claims"),
        ("_enable_encrypt_messages", [0, 1, "true", ""], "true or false"),
        ("_enable_encrypt_messages", [True], "no key to encrypt with"),
        ("_retry_policy", ["", 5, [], {"minimum_delay": 25}], "_retry_policy"),
    ],
)
def test_a_reserved_key_out_of_its_limits_is_named(
    key: str, refused: list[object], named: str
) -> None:
    for value in refused:
        with pytest.raises(ValidationFailed, match=named) as refusal:
            checked({key: value}, SETTINGS)
        assert key in str(refusal.value)
        assert not isinstance(refusal.value, BodyInvalid)


def test_integers_and_depth_are_limited_anywhere_in_metadata() -> None:
    deep: object = 1
    for _ in range(200):
        deep = [deep]

    with pytest.raises(BodyInvalid, match="out of range"):
        checked({"a": [{"b": 2**63}]}, SETTINGS)
    with pytest.raises(BodyInvalid, match="out of range"):
        checked({"_max_claim_count": 2**63}, SETTINGS)
    with pytest.raises(BodyInvalid, match="deeper"):
        checked({"a": deep}, SETTINGS)


def test_a_queue_without_metadata_shows_the_seven_defaults() -> None:
    assert shown({}, SETTINGS) == DEFAULTS


@pytest.mark.parametrize("falsy", [None, 0, "", False])
def test_falsy_reserved_values_are_shown_as_the_defaults(falsy: object) -> None:
    assert shown(dict.fromkeys(DEFAULTS, falsy), SETTINGS) == DEFAULTS


def test_stored_values_are_shown_beside_the_defaults() -> None:
    stored = {"_default_message_ttl": 60, "_retry_policy": {}, "mine": None}

    assert shown(stored, SETTINGS) == DEFAULTS | stored
    assert stored == {"_default_message_ttl": 60, "_retry_policy": {}, "mine": None}


@given(metadata=metadata_objects)
def test_checking_and_showing_twice_changes_nothing(metadata: JsonObject) -> None:
    once = shown(metadata, SETTINGS)

    assert shown(once, SETTINGS) == once
    if is_storable(metadata):
        assert checked(checked(metadata, SETTINGS), SETTINGS) == metadata
        assert is_storable(once)


def test_an_empty_patch_is_fine() -> None:
    assert patch({"a": 1}) == {"a": 1}


def test_a_key_that_is_present_can_be_added_replaced_and_removed() -> None:
    assert patch({"a": 1}, ("add", "a", 2)) == {"a": 2}
    assert patch({"a": 1}, ("replace", "a", None)) == {"a": None}
    assert patch({"a": 1}, ("remove", "a")) == {}


@pytest.mark.parametrize("key", list(DEFAULTS))
def test_a_reserved_key_that_is_absent_counts_as_present(key: str) -> None:
    assert patch({}, ("add", f"{key}", None)) == {key: None}
    assert patch({}, ("replace", f"{key}", None)) == {key: None}
    assert patch({}, ("remove", f"{key}")) == {}


@pytest.mark.parametrize("key", ["a", "_retry_policy", "_flavor"])
def test_another_key_that_is_absent_can_only_be_added(key: str) -> None:
    assert patch({}, ("add", f"{key}", {})) == {key: {}}
    with pytest.raises(MetadataConflict, match=key):
        patch({}, ("replace", f"{key}", {}))
    with pytest.raises(MetadataConflict, match=key):
        patch({}, ("remove", f"{key}"))


def test_operations_are_applied_in_turn() -> None:
    steps: list[tuple[Any, ...]] = [
        ("add", "a", 1),
        ("replace", "a", 2),
        ("remove", "b"),
    ]

    assert patch({"b": 0}, *steps) == {"a": 2}
    with pytest.raises(MetadataConflict):
        patch({"b": 0}, *reversed(steps))


def test_a_patch_may_pass_through_a_state_that_could_not_be_stored() -> None:
    key = "_default_message_ttl"

    assert patch({}, ("add", key, 1), ("add", key, 60)) == {"_default_message_ttl": 60}


def test_what_comes_out_of_a_patch_must_be_storable() -> None:
    with pytest.raises(BodyInvalid, match=r"_default_message_ttl must be .* 60 to 1209600 seconds"):
        patch({}, ("add", "_default_message_ttl", 59))


def test_patched_metadata_may_reach_its_limit_in_bytes() -> None:
    limit = SETTINGS.max_queue_metadata
    room = limit - len('{"a":"","b":""}')
    stored = {"a": "x" * (room - 10)}

    assert patch(stored, ("add", "b", "x" * 10))
    with pytest.raises(BodyInvalid, match="65537 bytes; at most 65536 bytes"):
        patch(stored, ("add", "b", "x" * 11))


@given(metadata=metadata_objects, additions=metadata_objects)
def test_a_patch_leaves_its_input_alone_and_adding_twice_is_adding_once(
    metadata: JsonObject, additions: JsonObject
) -> None:
    before = copy.deepcopy(metadata)
    operations = [PatchStep("add", key, value) for key, value in additions.items()]

    try:
        once = patched(metadata, operations, SETTINGS)
    except BodyInvalid:
        assert not is_storable(before | additions)
    else:
        assert once == before | additions
        assert patched(once, operations, SETTINGS) == once
    assert metadata == before


@pytest.mark.parametrize(
    ("metadata", "rules"),
    [
        ({}, MessageRules(3600, 0, 262144)),
        (DEFAULTS, MessageRules(3600, 0, 262144)),
        (dict.fromkeys(DEFAULTS), MessageRules(3600, 0, 262144)),
        ({"_default_message_ttl": 60}, MessageRules(60, 0, 262144)),
        ({"_default_message_delay": 9}, MessageRules(3600, 9, 262144)),
        ({"_max_messages_post_size": 1}, MessageRules(3600, 0, 1)),
        ({"_max_messages_post_size": 10**9}, MessageRules(3600, 0, 262144)),
    ],
)
def test_posts_follow_the_queue_before_the_settings(
    metadata: JsonObject, rules: MessageRules
) -> None:
    assert message_rules(metadata, SETTINGS) == rules


def test_the_setting_s_default_delay_is_shown_but_not_applied() -> None:
    settings = Settings(default_message_delay=30)

    assert shown({}, settings)["_default_message_delay"] == 30
    assert message_rules({}, settings).default_delay == 0


@pytest.mark.parametrize(
    ("queue", "count", "ttl", "expected"),
    [
        ("dlq", 3, None, DeadLetter(QueueRef("p1", "dlq"), 3, None)),
        ("dlq", 3, 60, DeadLetter(QueueRef("p1", "dlq"), 3, 60)),
        ("dlq", 0, None, DeadLetter(QueueRef("p1", "dlq"), 0, None)),
        ("dlq", None, None, None),
        (None, 3, None, None),
        (None, None, 60, None),
        ("q1", 3, None, None),
    ],
)
def test_a_dead_letter_queue_needs_both_keys(
    queue: str | None, count: int | None, ttl: int | None, expected: DeadLetter | None
) -> None:
    metadata = {
        "_dead_letter_queue": queue,
        "_max_claim_count": count,
        "_dead_letter_queue_messages_ttl": ttl,
    }

    assert dead_letter(REF, metadata) == expected


def test_a_queue_without_metadata_has_no_dead_letter_queue() -> None:
    assert dead_letter(REF, {}) is None


def test_messages_can_be_encrypted_where_there_is_a_key() -> None:
    settings = Settings(encryption_keys=KEY)

    assert checked({ENCRYPT: True}, settings) == {ENCRYPT: True}


@pytest.mark.parametrize("value", [None, False])
def test_a_queue_that_is_not_encrypted_has_no_rule_about_it(value: object) -> None:
    assert rules_of({ENCRYPT: value}) == rules_of({}) == {}
    assert rules_of({ENCRYPT: True}) == {ENCRYPT: True}
