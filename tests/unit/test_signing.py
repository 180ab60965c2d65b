"""Signatures of pre-signed URLs."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaqar_notify.errors import SignatureRefused
from zaqar_notify.rules.signing import (
    sign_url,
    verify_url,
    wire_instant,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()


class Presigned(TypedDict):
    signature: str
    paths_header: str
    methods_header: str
    expires_header: str
    project: str
    method: str
    path: str
    now: datetime


def presigned(key: str = "k1", project: str = "p1") -> Presigned:
    expires = NOW + timedelta(hours=1)
    return Presigned(
        signature=sign_url(
            key,
            paths=["/v2/queues/q1/messages"],
            methods=["GET", "POST"],
            project=project,
            expires=expires,
        ),
        paths_header="/v2/queues/q1/messages",
        methods_header="GET,POST",
        expires_header="2026-11-20T13:00:00",
        project=project,
        method="GET",
        path="/v2/queues/q1/messages",
        now=NOW,
    )


def refused(request: Presigned, *keys: str) -> bool:
    try:
        verify_url(keys or ("k1",), **request)
    except SignatureRefused:
        return True
    return False


def test_a_url_is_signed_as_the_contract_s_example() -> None:
    signature = sign_url(
        "secret",
        paths=["/v2/queues/q1/messages"],
        methods=["POST", "GET"],
        project="p1",
        expires=datetime(2030, 1, 1, 1, 0, 0, 999, tzinfo=timezone(timedelta(hours=1))),
    )

    assert signature == "a9a2da75441943d40a8956729e3f92cc366fe53a97c16cf743767be7d3a7399b"


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("/v2/queues/q1/messages", True),
        ("/v2/queues/q1/messages/m1", True),
        ("/v2/queues/q1/messagesX", False),
        ("/v2/queues/q1", False),
        ("/v2/queues/q1X/messages", False),
        ("/x/v2/queues/q1/messages", False),
        ("/v2/queues/q1/claims", False),
    ],
)
def test_a_signed_path_admits_itself_and_what_is_below_it(path: str, covered: bool) -> None:
    request = presigned()
    request["path"] = path

    assert refused(request) is not covered


def test_a_signed_path_is_literal_text_and_no_pattern() -> None:
    request = presigned()
    signed = "/v2/queues/a.b/messages"
    request["paths_header"] = signed
    request["signature"] = sign_url(
        "k1",
        paths=[signed],
        methods=["GET", "POST"],
        project="p1",
        expires=NOW + timedelta(hours=1),
    )

    request["path"] = "/v2/queues/aXb/messages"
    assert refused(request)

    request["path"] = signed
    assert not refused(request)


@pytest.mark.parametrize(
    "expires",
    [
        "2026-11-20T13:00:00",
        "2026-11-20T13:00:00.999999",
        "2026-11-20T13:00:00Z",
        "2026-11-20T14:00:00+01:00",
        "20261120T130000",
    ],
)
def test_expires_is_read_in_any_iso_8601_form(expires: str) -> None:
    request = presigned()
    request["expires_header"] = expires

    assert not refused(request)


@pytest.mark.parametrize(
    "expires", ["", "x", "1795179600", "9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"]
)
def test_an_unreadable_expires_is_refused(expires: str) -> None:
    request = presigned()
    request["expires_header"] = expires

    assert refused(request)


def test_a_signature_ends_at_its_instant() -> None:
    request = presigned()

    request["now"] = NOW + timedelta(seconds=3599)
    assert not refused(request)

    request["now"] = NOW + timedelta(seconds=3600)
    assert refused(request)


def test_the_headers_may_list_methods_in_any_order() -> None:
    request = presigned()
    request["methods_header"] = "POST,GET"

    assert not refused(request)


def test_any_of_the_keys_verifies_and_none_means_refused() -> None:
    assert not refused(presigned("k1"), "k2", "k1")
    assert refused(presigned("k1"), "k2", "k3")
    with pytest.raises(SignatureRefused):
        verify_url([], **presigned())


@pytest.mark.parametrize("signature", ["", "é", "0" * 64, "A" * 64])
def test_a_wrong_signature_is_refused(signature: str) -> None:
    request = presigned()
    request["signature"] = signature

    assert refused(request)


def test_an_upper_case_signature_is_refused() -> None:
    request = presigned()
    request["signature"] = request["signature"].upper()

    assert refused(request)


def test_a_project_with_a_crafted_name_cannot_sign_for_another() -> None:
    request = presigned()
    request["signature"] = sign_url(
        "k1",
        paths=["/v2/queues/q1/messages"],
        methods=["GET"],
        project=r"a,POST\nvictim",
        expires=NOW + timedelta(hours=1),
    )
    request["project"] = "victim"
    request["methods_header"] = r"GET\na,POST"
    request["method"] = "POST"

    assert refused(request)


def of_generation(generation: int) -> Presigned:
    request = presigned()
    request["signature"] = sign_url(
        "k1",
        paths=["/v2/queues/q1/messages"],
        methods=["GET", "POST"],
        project="p1",
        expires=NOW + timedelta(hours=1),
        generation=generation,
    )
    return request


@given(generation=st.integers(0, 2**63 - 1))
def test_a_signature_tells_its_generation(generation: int) -> None:
    assert verify_url(["k2", "k1"], **of_generation(generation)).generation == generation


@given(one=st.integers(0, 2**63 - 1), other=st.integers(1, 2**63 - 1))
def test_a_signature_of_one_generation_cannot_pass_for_another(one: int, other: int) -> None:
    request = of_generation(one)
    digest = request["signature"].rpartition(".")[2]

    request["signature"] = f"{other:x}.{digest}"

    assert refused(request) is (one != other)


@pytest.mark.parametrize("claimed", ["", "0", "01", "G", "-1", "+1", " 1", "1_0", "1" * 17, "1.1"])
def test_a_generation_is_written_in_one_way(claimed: str) -> None:
    request = of_generation(1)
    request["signature"] = f"{claimed}.{request['signature'].rpartition('.')[2]}"

    assert refused(request)


@given(
    generation=st.integers(0, 5),
    paths=st.lists(st.sampled_from(["/a", "/a/b", "/c", "/a/b/c"]), min_size=1),
    methods=st.lists(st.sampled_from(["GET", "PUT", "POST"]), min_size=1),
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE"]),
    path=st.sampled_from(["/a", "/a/b", "/ab", "/c", "/a/b/c/d", "/", ""]),
    seconds=st.integers(-2, 2),
    project=st.text(max_size=5).filter(lambda text: text.isprintable()),
)
def test_a_signed_request_is_admitted_exactly_when_it_is_within_what_was_signed(
    generation: int,
    paths: list[str],
    methods: list[str],
    method: str,
    path: str,
    seconds: int,
    project: str,
) -> None:
    expires = NOW + timedelta(seconds=seconds)
    request = Presigned(
        signature=sign_url(
            "k1",
            paths=paths,
            methods=methods,
            project=project,
            expires=expires,
            generation=generation,
        ),
        paths_header=",".join(reversed(paths)),
        methods_header=",".join(reversed(methods)),
        expires_header=wire_instant(expires),
        project=project,
        method=method,
        path=path,
        now=NOW,
    )

    covered = any(f"{path}/".startswith(f"{signed}/") for signed in paths)

    assert refused(request) is not (covered and method in methods and seconds > 0)


@given(data=st.data())
def test_any_single_change_of_a_signed_request_is_refused(data: st.DataObject) -> None:
    request = presigned()
    assert not refused(request)

    field = data.draw(
        st.sampled_from(["signature", "paths_header", "methods_header", "project", "path"])
    )
    text: str = request[field]  # type: ignore[literal-required]
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(
        st.characters(exclude_categories=["Cs"], exclude_characters=text[position])
    )
    request[field] = text[:position] + character + text[position + 1 :]  # type: ignore[literal-required]

    assert refused(request)
