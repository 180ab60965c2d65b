"""The client when the service does not answer, or refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter
from urllib3.response import HTTPResponse

from zaqar_notify.client import (
    BadRequest,
    Client,
    ClientError,
    Conflict,
    Forbidden,
    NotFound,
    RawJson,
    ServiceError,
    ServiceUnavailable,
    ServiceUnreachable,
    ServiceWarning,
    Unauthorized,
)

Answer = tuple[int, Mapping[str, str], Any]

POSTED: Answer = (201, {}, {"resources": ["/v2/queues/q/messages/m1"]})
BUSY: Answer = (503, {}, {"title": "Service temporarily unavailable", "description": "Try again."})


class Script(BaseAdapter):
    """Plays the service: gives the answers in order, and keeps the requests."""

    def __init__(self, *answers: Answer | Exception) -> None:
        super().__init__()
        self._answers = list(answers)
        self.requests: list[requests.PreparedRequest] = []

    def send(
        self, request: requests.PreparedRequest, *arguments: Any, **keywords: Any
    ) -> requests.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, headers, body = answer
        response = requests.Response()
        response.status_code = status
        response.reason = "Reason"
        response.headers.update(headers)
        response.url = str(request.url)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response.raw = HTTPResponse(io.BytesIO(content), preload_content=False)
        return response

    def close(self) -> None:
        return


def client_of(script: Script, pauses_seconds: tuple[float, ...] = (0, 0, 0)) -> Client:
    session = requests.Session()
    session.mount("http://", script)
    return Client("http://zaqar.example", pauses_seconds=pauses_seconds, session=session)


def headers(script: Script, name: str) -> list[str | None]:
    return [request.headers.get(name) for request in script.requests]


def test_a_post_is_repeated_under_the_same_idempotency_key() -> None:
    script = Script(requests.ConnectionError("cut"), requests.ReadTimeout(), BUSY, POSTED)

    assert client_of(script).post("q", "body") == ["m1"]

    keys = headers(script, "Idempotency-Key")
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert keys[0]


def test_every_post_has_a_key_of_its_own() -> None:
    script = Script(POSTED, POSTED)
    client = client_of(script)

    client.post("q", 1)
    client.post("q", 1)

    assert len(set(headers(script, "Idempotency-Key"))) == 2


def test_tries_are_bounded() -> None:
    script = Script(BUSY, BUSY, BUSY, BUSY, POSTED)

    with pytest.raises(ServiceUnavailable, match="Try again"):
        client_of(script).post("q", 1)

    assert len(script.requests) == 4


@pytest.mark.parametrize("status", [503, 429])
def test_a_retry_waits_as_long_as_the_service_asked(status: int) -> None:
    script = Script((status, {"Retry-After": "1"}, {}), (204, {}, b""))

    client_of(script).ping()

    assert len(script.requests) == 2


def test_a_retry_after_longer_than_a_caller_waits_is_an_error_at_once() -> None:
    script = Script((503, {"Retry-After": "21"}, {"title": "Busy"}), POSTED)

    with pytest.raises(ServiceUnavailable, match="Busy"):
        client_of(script).post("q", 1)

    assert len(script.requests) == 1


def test_a_pop_whose_answer_was_lost_is_not_repeated() -> None:
    script = Script(requests.ConnectionError("cut"), POSTED)

    with pytest.raises(ServiceUnreachable):
        client_of(script).pop("q")

    assert len(script.requests) == 1


def test_a_pop_that_was_never_sent_is_repeated() -> None:
    script = Script(requests.ConnectTimeout(), (200, {}, {"messages": []}))

    assert client_of(script).pop("q") == []


def test_a_closed_client_does_not_try_again() -> None:
    script = Script(BUSY, POSTED)
    client = client_of(script, pauses_seconds=(60,))
    client.close()

    with pytest.raises(ServiceUnreachable, match="was closed"):
        client.post("q", 1)


def test_a_refused_connection_says_where_and_how_to_start_the_service() -> None:
    client = Client("http://127.0.0.1:1", pauses_seconds=())

    with pytest.raises(ServiceUnreachable) as unreachable:
        client.ping()

    assert "http://127.0.0.1:1" in str(unreachable.value)
    assert "zaqar-notify up" in str(unreachable.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (503, ServiceUnavailable),
        (429, ServiceUnavailable),
        (500, ServiceError),
        (302, ServiceError),
    ],
)
def test_an_error_carries_status_title_and_description(
    status: int, kind: type[ServiceError]
) -> None:
    script = Script((status, {}, {"title": "No", "description": "Not this way."}))

    with pytest.raises(ServiceError) as refused:
        client_of(script, pauses_seconds=()).stats("q")

    error = refused.value
    assert type(error) is kind
    assert (error.status, error.title, error.description) == (status, "No", "Not this way.")
    assert str(error) == "No: Not this way."


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": {"code": 401}}'])
def test_an_error_without_words_is_still_an_error(body: bytes) -> None:
    with pytest.raises(ServiceError, match=r"Reason \(500\)"):
        client_of(Script((500, {}, body))).ping()


def test_an_answer_of_something_else_is_named_as_such() -> None:
    with pytest.raises(ClientError, match="does not speak this API"):
        client_of(Script((200, {}, b"<html>"))).stats("q")


def test_who_is_calling_is_in_every_request() -> None:
    script = Script((204, {}, b""), (204, {}, b""))
    client = client_of(script)

    client.ping()
    client.ping()

    assert headers(script, "X-Project-ID") == ["default", "default"]
    assert headers(script, "Client-ID") == [client.client_id, client.client_id]


def test_an_address_may_be_given_with_its_version() -> None:
    assert Client("http://zaqar.example:8888/v2/").url == "http://zaqar.example:8888"


@pytest.mark.parametrize("text", ['{"a":1.10}', "1e400", "12345678901234567890", '"\\u00e9"'])
def test_raw_json_is_sent_as_it_is(text: str) -> None:
    script = Script(POSTED)

    client_of(script).post("q", RawJson(text), ttl=60)

    assert script.requests[0].body == b'{"messages":[{"body":' + text.encode() + b',"ttl":60}]}'


@pytest.mark.parametrize("text", ["", "[1", "NaN", "1}, {", "'a'"])
def test_raw_json_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|Extra data"):
        RawJson(text)


def test_a_number_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        client_of(Script()).post("q", float("nan"))


def test_only_the_parameters_that_were_given_are_sent() -> None:
    script = Script((200, {}, {"messages": [], "links": []}))

    page = client_of(script).messages("q", "m7", echo=True, wait=5)

    assert script.requests[0].path_url == (
        "/v2/queues/q/messages"
        "?marker=m7&echo=true&include_claimed=false&include_delayed=false&wait=5&attributes=true"
    )
    assert (page.messages, page.marker) == ([], "m7")


def test_what_the_service_says_has_no_effect_becomes_a_warning() -> None:
    sentences = '299 - "field \\"tll\\", and a \\\\ too", 299 agent "second", 199 - "other"'
    script = Script((201, {"Warning": sentences}, {"subscription_id": "1"}))

    with pytest.warns(ServiceWarning) as warned:
        client_of(script).subscribe("q", "https://example.org")

    assert [str(each.message) for each in warned] == ['field "tll", and a \\ too', "second"]


def test_a_program_may_hear_warnings_itself() -> None:
    heard: list[str] = []
    script = Script((201, {"Warning": '299 - "first"'}, {"subscription_id": "1"}))
    session = requests.Session()
    session.mount("http://", script)

    Client(session=session, on_warning=heard.append).subscribe("q", "https://example.org")

    assert heard == ["first"]


def test_a_token_goes_with_every_request_and_names_the_project(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine zaqar.example login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    script = Script(POSTED, POSTED, POSTED)
    for project in (None, "p"):
        session = requests.Session()
        session.mount("http://", script)
        Client("http://zaqar.example", project, token=" zqn_x\n", session=session).post("q", 1)

    assert headers(script, "Authorization") == ["Bearer zqn_x"] * 2
    assert headers(script, "X-Project-ID") == [None, "p"]


def test_without_a_token_a_project_is_named() -> None:
    script = Script(POSTED)
    client_of(script).post("q", 1)

    assert headers(script, "X-Project-ID") == ["default"]
    assert headers(script, "Authorization") == [None]
