"""Credentials in a query, for callers that can set no headers."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.credentials import IN_QUERY, credentials_in, is_signed_query, take_query
from api.refusals import ParameterInvalid
from api.requests import Call
from tests.api.conftest import StartApi


def call(query: str, **headers: str) -> Call:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "method": "GET",
        "path": "/v2/queues/q/messages",
        "query_string": query.encode(),
        "headers": [(b"host", b"x"), *sent],
        "http_version": "1.1",
    }
    return Call(scope, None, b"req", "", "", {})  # type: ignore[arg-type]


def test_parameters_stand_for_their_headers() -> None:
    query = urlencode({name: f"{name} é/+&=" for name in IN_QUERY} | {"limit": 3})

    assert credentials_in(query.encode()) == {
        header: f"{name} é/+&=".encode() for name, header in IN_QUERY.items()
    }


def test_a_call_takes_what_its_headers_lack() -> None:
    asked = call("client_id=me&echo=true", x_project_id="p1")

    take_query(asked, has_proxy=False)

    assert asked.headers == {b"host": b"x", b"x-project-id": b"p1", b"client-id": b"me"}


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("client_id=a&client_id=a", {}),
        ("client_id=a", {"client_id": "a"}),
        ("project_id=p", {"x_project_id": "p"}),
        ("project_id=p", {"x_tenant_id": "p"}),
        ("url_signature=", {"url_signature": "x"}),
        ("client_id=a%0D%0Ab", {}),
        ("project_id=%00", {}),
        ("URL_SIGNATURE=x", {}),
        ("limit=1;url_signature=x", {}),
    ],
)
def test_a_doubtful_credential_is_refused_without_its_value(
    query: str, headers: dict[str, str]
) -> None:
    with pytest.raises(ParameterInvalid) as refusal:
        take_query(call(query, **headers), has_proxy=False)

    assert "=" not in str(refusal.value)


def test_behind_a_proxy_a_client_names_its_project_by_a_signature_only() -> None:
    take_query(call("project_id=p&url_signature=x"), has_proxy=True)

    with pytest.raises(ParameterInvalid):
        take_query(call("project_id=p"), has_proxy=True)


@given(st.binary(max_size=60))
def test_any_query_is_read_or_refused(query: bytes) -> None:
    try:
        found = credentials_in(query)
    except ParameterInvalid:
        return
    assert found.keys() <= set(IN_QUERY.values())
    assert is_signed_query(query) == (b"url-signature" in found)


@pytest.mark.parametrize(
    "query", ["url_signature=", "a=1&Url_Signature=x", "%75rl_signature=x", "a;url_signature=x"]
)
@pytest.mark.parametrize("trust_proxy", [False, True], ids=["alone", "behind a proxy"])
async def test_an_ordinary_request_with_a_signature_in_its_query_is_refused(
    start_api: StartApi, query: str, trust_proxy: bool
) -> None:
    api = await start_api(signed_url_secrets="secret", trust_proxy=trust_proxy)

    for path in ("/v2/queues", "/v2/queues/q/messages", "/v2/queues/q"):
        reply = await api.get(f"{path}?{query}")

        assert (reply.status, reply.title) == (400, "Invalid parameter")
        assert "url_signature" in reply.json["description"]
