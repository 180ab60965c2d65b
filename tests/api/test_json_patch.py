"""The form of a JSON patch on a queue's metadata."""

from __future__ import annotations

import pytest

from api.v2.json_patch import parse_patch
from zaqar_notify.errors import BodyInvalid
from zaqar_notify.metadata import PatchStep


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/metadata/a", "a"),
        ("/METAdata/a", "a"),
        ("/metadata/a~1b", "a/b"),
        ("/metadata/a~0b", "a~b"),
        ("/metadata/~01", "~1"),
        ("/ metadata / a b ", "a b"),
        ("/metadata/_default_message_ttl", "_default_message_ttl"),
        ("/metadata/é", "é"),
    ],
)
def test_a_path_names_one_key_of_the_metadata(path: str, key: str) -> None:
    assert parse_patch([{"op": "add", "path": path, "value": 1}]) == [PatchStep("add", key, 1)]


def test_remove_does_not_look_at_the_first_token() -> None:
    assert parse_patch([{"op": "remove", "path": "/any/a"}]) == [PatchStep("remove", "a")]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "metadata/a",
        "/metadata",
        "/metadata/",
        "/metadata/a/",
        "/metadata//a",
        "//a",
        "/metadata/a/b",
        "/metadata/ ",
        "/metadata/a~",
        "/metadata/a~2",
        "/metadata/~ 1",
        "/other/a",
        None,
        5,
        ["/metadata/a"],
    ],
)
def test_a_bad_path_is_refused(path: object) -> None:
    with pytest.raises(BodyInvalid, match="Operation 2: path"):
        parse_patch(
            [
                {"op": "add", "path": "/metadata/a", "value": 1},
                {"op": "add", "path": path, "value": 1},
            ]
        )


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({}, "array of patch operations"),
        (None, "array of patch operations"),
        ({"op": "add", "path": "/metadata/a", "value": 1}, "array of patch operations"),
        (["x"], "Operation 1 must be an object"),
        ([{}], "Operation 1 lacks op"),
        ([{"op": "add", "value": 1}], "Operation 1 lacks path"),
        ([{"path": "/metadata/a", "value": 1}], "Operation 1 lacks op"),
        ([{"op": "add", "path": "/metadata/a"}], "add needs a value"),
        ([{"op": "replace", "path": "/metadata/a"}], "replace needs a value"),
        ([{"op": "move", "path": "/metadata/a"}], "takes add, replace and remove"),
        ([{"op": "ADD", "path": "/metadata/a", "value": 1}], "takes add, replace and remove"),
        ([{"op": ["add"], "path": "/metadata/a", "value": 1}], "takes add, replace and remove"),
        ([{"op": None, "path": "/metadata/a"}], "takes add, replace and remove"),
    ],
)
def test_a_malformed_patch_says_what_is_wrong(document: object, named: str) -> None:
    with pytest.raises(BodyInvalid, match=named):
        parse_patch(document)
