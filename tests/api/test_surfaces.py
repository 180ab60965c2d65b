"""A second wire beside version 2: its own callers, checks and errors, over the same service functions."""

from __future__ import annotations

import msgspec
import orjson
import pytest

from api.answers import Answer
from api.errors import response_for
from api.refusals import RequestRefused
from api.requests import Call
from api.resources import Operation, Parameter, Reply, Resource
from api.surfaces import Documented, Surface
from tests.api.added import Everybody, add_surface
from tests.api.conftest import Api, StartApi
from zaqar_notify import messages
from zaqar_notify.delivery.installation import MARK_HEADER, installation_mark
from zaqar_notify.delivery.posts import PostedMessage
from zaqar_notify.errors import NotifyError
from zaqar_notify.rules.names import queue_ref
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings


async def post_text(service: Service, call: Call) -> Answer:
    text = (await call.body(10)).decode()
    if text == "defect":
        raise ZeroDivisionError
    message = PostedMessage(msgspec.Raw(orjson.dumps(text)), ttl=5)
    await messages.post(service, call.ref, [message], size=len(text), client_id="texts")
    return Answer(202, b"taken", content_type=b"text/plain")


def admit(call: Call, settings: Settings) -> None:
    call.project = str(call.caller.project)
    call.ref = queue_ref(call.project, call.names["queue_name"])


def errors(error: Exception, call: Call) -> Answer:
    status = 500
    if isinstance(error, RequestRefused):
        status = error.status
    elif isinstance(error, NotifyError):
        status, _ = response_for(type(error))
    return Answer(status, b"%d!" % status, content_type=b"text/plain")


POST = Operation(post_text, "messages:create", "Post a text", {202: Reply("Taken")})
TEXTS = Surface(
    "/texts",
    (Resource("/texts/{queue_name}", {"POST": POST}),),
    Everybody(),
    admit,
    errors,
    Documented(names={"queue_name": Parameter("queue_name", "The queue's name.", str, "q")}),
)
NO_IDENTITY = {"Client-ID": None, "X-Project-ID": None, "Accept": "text/plain"}


@pytest.fixture
async def api(start_api: StartApi, monkeypatch: pytest.MonkeyPatch) -> Api:
    add_surface(monkeypatch, TEXTS)
    return await start_api()


async def test_what_one_wire_posts_the_other_lists(api: Api) -> None:
    reply = await api.post("/texts/q", body=b"hello", headers=NO_IDENTITY)

    assert (reply.status, reply.body) == (202, b"taken")
    listed = (await api.get("/v2/queues/q/messages?echo=true")).json["messages"]
    assert [(message["body"], message["ttl"]) for message in listed] == [("hello", 5)]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/texts/q!", b"x", 400),
        ("POST", "/texts/q", b"x" * 11, 400),
        ("GET", "/texts/q", None, 405),
        ("POST", "/texts/q/more", b"x", 404),
        ("POST", "/texts", b"x", 404),
        ("POST", "/texts/q", b"defect", 500),
    ],
)
async def test_a_wire_s_refusals_have_its_own_form(
    api: Api, method: str, path: str, body: bytes | None, status: int
) -> None:
    reply = await api.call(method, path, body=body, headers=NO_IDENTITY)

    assert (reply.status, reply.body) == (status, b"%d!" % status)


@pytest.mark.parametrize("path", ["/texts/q", "/texts/q/more"])
async def test_our_own_deliveries_are_refused_in_the_wire_s_form(api: Api, path: str) -> None:
    mark = {MARK_HEADER: installation_mark(api.service.settings)}

    reply = await api.post(path, body=b"x", headers=NO_IDENTITY | mark)

    assert (reply.status, reply.body) == (403, b"403!")


async def test_a_wire_is_documented_as_it_is(api: Api) -> None:
    documented = (await api.get("/openapi.json")).json["paths"]["/texts/{queue_name}"]["post"]

    assert [parameter["name"] for parameter in documented["parameters"]] == ["queue_name"]
    assert set(documented["responses"]) == {"202", "401", "403", "404", "405", "500", "503"}
    assert documented["responses"]["405"]["content"] == {
        "text/plain": {"schema": {"type": "string"}, "example": "405!"}
    }


@pytest.mark.parametrize("path", ["/textsq", "/nowhere", "/v2/nowhere"])
async def test_elsewhere_the_refusals_are_the_contract_s(api: Api, path: str) -> None:
    assert (await api.get(path)).json == {"title": "404 Not Found"}
