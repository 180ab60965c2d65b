"""Keys, and envelopes of what they encrypt."""

from __future__ import annotations

import base64
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaqar_notify.errors import CannotDecrypt, StartRefused
from zaqar_notify.rules.encryption import VERSION, Keyring, Kind, is_envelope, read_envelope
from zaqar_notify.settings import load_settings

KEYS = {"new": os.urandom(32), "old": os.urandom(32)}
NEW_AND_OLD = Keyring(KEYS)
ONLY_OLD = Keyring({"old": KEYS["old"]})
ONLY_NEW = Keyring({"new": KEYS["new"]})

projects = st.text(max_size=256)
contents = st.binary(max_size=2000)


def as_setting(key: bytes) -> str:
    return base64.b64encode(key).decode()


@given(projects, contents)
def test_an_envelope_opens_to_what_was_put_in_and_shows_nothing_of_it(
    project: str, content: bytes
) -> None:
    stored = NEW_AND_OLD.seal(Kind.MESSAGE, project, content)

    assert NEW_AND_OLD.open(Kind.MESSAGE, project, stored) == content
    assert is_envelope(stored)
    assert read_envelope(stored).key_id == "new"
    assert len(content) < 8 or content not in stored


@given(projects, contents)
def test_two_envelopes_of_one_content_differ(project: str, content: bytes) -> None:
    assert NEW_AND_OLD.seal(Kind.MESSAGE, project, content) != NEW_AND_OLD.seal(
        Kind.MESSAGE, project, content
    )


@given(contents, st.data())
def test_an_envelope_that_was_changed_in_any_bit_is_refused(
    content: bytes, data: st.DataObject
) -> None:
    stored = bytearray(NEW_AND_OLD.seal(Kind.MESSAGE, "p", content))
    at = data.draw(st.integers(1, len(stored) - 1))
    stored[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(CannotDecrypt):
        NEW_AND_OLD.open(Kind.MESSAGE, "p", bytes(stored))


@given(contents, st.data())
def test_an_envelope_that_was_cut_off_is_refused(content: bytes, data: st.DataObject) -> None:
    stored = NEW_AND_OLD.seal(Kind.MESSAGE, "p", content)
    part = stored[: data.draw(st.integers(1, len(stored) - 1))]

    with pytest.raises(CannotDecrypt):
        NEW_AND_OLD.open(Kind.MESSAGE, "p", part)


@given(projects, projects)
def test_an_envelope_opens_for_its_own_project_alone(project: str, other: str) -> None:
    if project == other:
        return
    stored = NEW_AND_OLD.seal(Kind.MESSAGE, project, b"1")

    with pytest.raises(CannotDecrypt, match="is damaged, or is not what was stored here"):
        NEW_AND_OLD.open(Kind.MESSAGE, other, stored)


def test_an_envelope_with_another_project_written_into_it_is_refused() -> None:
    stored = NEW_AND_OLD.seal(Kind.MESSAGE, "mine", b"1")

    with pytest.raises(CannotDecrypt):
        NEW_AND_OLD.open(Kind.MESSAGE, "your", stored.replace(b"mine", b"your"))


def test_an_envelope_opens_in_the_place_of_its_kind_alone() -> None:
    stored = NEW_AND_OLD.seal(Kind.SUBSCRIPTION, "p", b"1")

    with pytest.raises(CannotDecrypt):
        NEW_AND_OLD.open(Kind.MESSAGE, "p", stored)


def test_a_missing_key_is_named() -> None:
    stored = ONLY_OLD.seal(Kind.MESSAGE, "p", b"1")

    with pytest.raises(CannotDecrypt, match=r"'old'.*no key of this id") as refused:
        ONLY_NEW.open(Kind.MESSAGE, "p", stored)

    assert refused.value.key_id == "old"


@given(contents)
def test_damage_never_shows_as_the_id_of_a_key(garbage: bytes) -> None:
    for stored in (garbage, VERSION + garbage):
        with pytest.raises(CannotDecrypt) as refused:
            NEW_AND_OLD.open(Kind.MESSAGE, "p", stored)

        assert re.fullmatch(r"[A-Za-z0-9._-]{0,32}", refused.value.key_id)


@given(contents.filter(lambda content: content[:1] != VERSION))
def test_what_is_no_envelope_does_not_open(content: bytes) -> None:
    with pytest.raises(CannotDecrypt, match="is damaged"):
        NEW_AND_OLD.open(Kind.MESSAGE, "p", content)


def test_another_key_of_the_same_id_opens_nothing() -> None:
    stored = ONLY_OLD.seal(Kind.MESSAGE, "p", b"1")

    with pytest.raises(CannotDecrypt):
        Keyring({"old": os.urandom(32)}).open(Kind.MESSAGE, "p", stored)


def test_a_former_key_decrypts_and_the_first_one_encrypts_anew() -> None:
    stored = NEW_AND_OLD.resealed(Kind.MESSAGE, ONLY_OLD.seal(Kind.MESSAGE, "p", b"content"))

    assert read_envelope(stored).key_id == "new"
    assert ONLY_NEW.open(Kind.MESSAGE, "p", stored) == b"content"


def test_digests_are_compared_under_every_key_and_depend_on_the_project() -> None:
    before = ONLY_OLD.digests("p", b"body")[0]

    assert before in NEW_AND_OLD.digests("p", b"body")
    assert before not in NEW_AND_OLD.digests("other", b"body")
    assert before not in NEW_AND_OLD.digests("p", b"other")


@given(st.binary(max_size=100).filter(lambda body: body[:1] != b"\x01"))
def test_what_is_no_envelope_has_no_key(stored: bytes) -> None:
    assert not is_envelope(stored)


def test_a_setting_lists_keys_and_the_first_encrypts() -> None:
    words = [f"{key_id}:{as_setting(key)}" for key_id, key in KEYS.items()]

    settings = load_settings({"ZAQAR_ENCRYPTION_KEYS": ",".join(words)})

    assert settings.keyring.ids == ("new", "old")
    assert (
        settings.keyring.open(Kind.MESSAGE, "p", NEW_AND_OLD.seal(Kind.MESSAGE, "p", b"1")) == b"1"
    )


def test_without_the_setting_there_are_no_keys() -> None:
    assert not load_settings({}).keyring


KEY = as_setting(bytes(range(32)))


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (KEY, "entry 1 must be id:base64key"),
        (f":{KEY}", "entry 1 must be id:base64key"),
        (f"{KEY}:k1", "entry 1 must be id:base64key"),
        (f"k 1:{KEY}", "entry 1 must be id:base64key"),
        (f"{'k' * 33}:{KEY}", "entry 1 must be id:base64key"),
        (f"k1:{KEY},k1:{KEY}", "entry 2 has the id 'k1' of an entry before it"),
        (f"k1:{KEY},k2:{as_setting(bytes(16))}", "the key of entry 2 has 16 bytes"),
        (f"k1:{as_setting(bytes(33))}", "the key of entry 1 has 33 bytes"),
        (f"k1:{KEY[:-2]}", "the key of entry 1 is not base64"),
        (f"k1:{KEY[:-1]}!", "the key of entry 1 is not base64"),
        ("k1:é" + KEY, "the key of entry 1 is not base64"),
        ("k1:", "the key of entry 1 has 0 bytes"),
    ],
)
def test_a_wrong_list_of_keys_stops_the_start_and_shows_no_key(setting: str, reason: str) -> None:
    with pytest.raises(StartRefused) as refused:
        load_settings({"ZAQAR_ENCRYPTION_KEYS": setting})

    sentence = str(refused.value)
    assert sentence.startswith("ZAQAR_ENCRYPTION_KEYS=********")
    assert reason in sentence
    assert KEY[:8] not in sentence


def test_keys_show_their_ids_alone() -> None:
    assert repr(NEW_AND_OLD) == "<Keyring new, old>"
