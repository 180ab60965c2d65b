"""The application is plain FastAPI: middleware and handlers that are added to it reach every route, ours included."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.testclient import TestClient
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.app import create_app
from tests.api.conftest import CLIENT_ID, PROJECT
from tests.doorbell import SilentDoorbell
from tests.kinds import KINDS
from tests.samples import Samples
from zaqar_notify.errors import DoesNotExist
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage

HEADERS = {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT}
MESSAGES = "/v2/queues/q/messages"
ROUTE = "/v2/queues/{queue_name}/messages"
ONE = {"messages": [{"body": 1}]}
REQUEST_ID = "X-OpenStack-Request-Id"


class Label:
    """Middleware that writes a header on each request and each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-seen", b"yes")]
            await send(message)

        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"x-project-id", b"from-a-token")]
        await self.app(scope, receive, labelled)


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal("asyncio") as portal:
        yield portal


@pytest.fixture
def service(portal: BlockingPortal, tmp_path: Path) -> Iterator[Service]:
    storage = portal.call(open_storage, f"sqlite://{tmp_path}/zaqar.db")
    yield Service(
        storage=storage,
        settings=Settings(auth="none"),
        clock=storage.clock,
        doorbell=SilentDoorbell(),
        kinds=KINDS,
    )
    portal.call(storage.close)


@pytest.fixture
def app(service: Service) -> FastAPI:
    return create_app(service)


@pytest.fixture
def client(app: FastAPI, portal: BlockingPortal) -> TestClient:
    """A client in the event loop of the store."""
    return client_of(app, portal)


def client_of(
    app: FastAPI, portal: BlockingPortal, *, raise_server_exceptions: bool = True
) -> TestClient:
    client = TestClient(app, headers=HEADERS, raise_server_exceptions=raise_server_exceptions)
    client.portal = portal
    return client


def test_a_test_client_posts_and_reads(client: TestClient) -> None:
    posted = client.post(MESSAGES, json=ONE)
    page = client.get(MESSAGES, params={"echo": "true"})

    assert posted.status_code == 201
    assert [message["body"] for message in page.json()["messages"]] == [1]


def test_a_test_client_opens_a_websocket(client: TestClient) -> None:
    with client.websocket_connect("/v2") as socket:
        socket.send_json(
            {"action": "queue_create", "headers": HEADERS, "body": {"queue_name": "q"}}
        )
        answer = socket.receive_json()

    assert (answer["headers"], answer["body"]) == ({"status": 201}, "Queue q created.")


def test_a_websocket_of_an_added_route_is_served_beside_ours(
    app: FastAPI, client: TestClient
) -> None:
    @app.websocket("/own")
    async def own(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.query_params["word"])
        await socket.close()

    with client.websocket_connect("/own?word=hello") as socket:
        assert socket.receive_text() == "hello"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (MESSAGES, 200),
        (f"{MESSAGES}/none", 404),
        ("/healthz", 204),
        ("/metrics", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/docs/assets/swagger-ui.css", 200),
        ("/nowhere", 404),
    ],
)
def test_middleware_changes_every_request_and_sees_every_answer(
    app: FastAPI, client: TestClient, path: str, status: int
) -> None:
    app.add_middleware(Label)
    del client.headers["X-Project-ID"]

    answer = client.get(path)

    assert (answer.status_code, answer.headers["x-seen"]) == (status, "yes")
    assert answer.headers[REQUEST_ID].startswith("req-")


def test_an_answer_of_middleware_is_counted_and_has_a_request_id(
    app: FastAPI, client: TestClient
) -> None:
    @app.middleware("http")
    async def refuse(request: Request, call_next: RequestResponseEndpoint) -> Response:
        answer = await call_next(request)
        if answer.status_code == 200:
            return answer
        return JSONResponse({"id": request.state.exchange.request_id.decode()}, 401)

    refused = client.get(f"{MESSAGES}/none")
    samples = Samples(client.get("/metrics").text)

    assert refused.json()["id"] == refused.headers[REQUEST_ID]
    route = f"{ROUTE}/{{message_id}}"
    assert samples("requests_total", route=route, method="GET", status="401") == 1


def test_middleware_of_the_library_works(app: FastAPI, client: TestClient) -> None:
    app.add_middleware(GZipMiddleware, minimum_size=1)
    client.post(MESSAGES, json=ONE)

    page = client.get(MESSAGES, params={"echo": "true"})

    assert page.headers["Content-Encoding"] == "gzip"
    assert len(page.json()["messages"]) == 1


def test_other_applications_and_routes_can_be_added(app: FastAPI, client: TestClient) -> None:
    other = FastAPI()
    other.get("/hello")(lambda: "mounted")
    router = APIRouter(prefix="/more")
    router.get("/things")(lambda: "included")
    app.mount("/other", other)
    app.include_router(router)
    app.get("/own")(lambda: "own")

    assert client.get("/other/hello").json() == "mounted"
    assert client.get("/more/things").json() == "included"
    assert client.get("/own").json() == "own"


def test_a_route_that_was_put_before_ours_is_asked_first(app: FastAPI, client: TestClient) -> None:
    def answer(_request: Request) -> Response:
        return PlainTextResponse("theirs")

    app.router.routes.insert(0, Route(MESSAGES, answer))

    assert client.get(MESSAGES).text == "theirs"
    assert client.post(MESSAGES, json=ONE).status_code == 201
    assert client.get("/v2/queues/q").status_code == 200


def test_routes_that_were_added_are_documented_beside_ours(
    app: FastAPI, client: TestClient
) -> None:
    app.get("/own")(lambda: "own")

    paths = client.get("/openapi.json").json()["paths"]

    assert ROUTE in paths
    assert paths["/own"]["get"]["responses"].keys() == {"200"}


def test_refusals_of_added_routes_have_the_contract_s_form(
    app: FastAPI, client: TestClient
) -> None:
    @app.get("/own")
    def refuse() -> None:
        raise HTTPException(402, "Pay first", {"X-Price": "5"})

    refused = client.get("/own")

    assert refused.status_code == 402
    assert refused.json() == {"title": "402 Payment Required", "description": "Pay first"}
    assert refused.headers["X-Price"] == "5"
    assert client.post("/own").json() == {"title": "405 Method Not Allowed"}


def test_the_application_lists_its_resources(app: FastAPI) -> None:
    shown = {
        route.path: route.methods
        for each in app.routes
        for route in getattr(each, "routes", [each])
        if hasattr(route, "methods")
    }

    assert shown[ROUTE] >= {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
    assert "PUT" not in shown[ROUTE]
    assert "/healthz" in shown


def test_links_to_resources_can_be_made_by_name(app: FastAPI, client: TestClient) -> None:
    @app.get("/link")
    def link(request: Request) -> str:
        return str(request.url_for("v2_queues_messages", queue_name="q"))

    assert app.url_path_for("v2_queues_messages", queue_name="q") == MESSAGES
    assert app.url_path_for("v2_queues_messages", queue_name="q", message_id="7") == f"{MESSAGES}/7"
    assert client.get("/link").json() == f"http://testserver{MESSAGES}"


def test_an_added_handler_of_errors_answers_for_our_resources(
    app: FastAPI, client: TestClient
) -> None:
    @app.exception_handler(DoesNotExist)
    async def answer(_request: Request, error: DoesNotExist) -> Response:
        return PlainTextResponse(f"Gone: {error}", 410)

    gone = client.get(f"{MESSAGES}/none")

    assert (gone.status_code, gone.text[:6]) == (410, "Gone: ")
    assert client.post(MESSAGES, json={}).status_code == 400


@pytest.mark.parametrize("is_added", [True, False])
def test_a_defect_in_a_resource_goes_to_an_added_handler_or_is_answered(
    app: FastAPI,
    service: Service,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
    is_added: bool,
) -> None:
    if is_added:
        app.exception_handler(Exception)(lambda _request, _error: PlainTextResponse("Oh", 500))
    monkeypatch.setattr(service.storage.messages, "page", None)

    failed = client_of(app, portal, raise_server_exceptions=False).get(MESSAGES)

    assert failed.status_code == 500
    assert (failed.text == "Oh") is is_added


def test_a_defect_in_an_added_route_is_answered_and_logged_with_its_request_id(
    app: FastAPI, portal: BlockingPortal, caplog: pytest.LogCaptureFixture
) -> None:
    app.get("/own")(lambda: 1 / 0)

    failed = client_of(app, portal, raise_server_exceptions=False).get("/own")

    assert failed.status_code == 500
    assert failed.json()["description"] == failed.headers[REQUEST_ID]
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert vars(record)["request_id"] == failed.headers[REQUEST_ID]
    with pytest.raises(ZeroDivisionError):
        client_of(app, portal).get("/own")


def test_below_another_application_links_lead_there(app: FastAPI, portal: BlockingPortal) -> None:
    outer = FastAPI()
    outer.mount("/mq", app)
    client = client_of(outer, portal)

    posted = client.post(f"/mq{MESSAGES}", json=ONE)

    assert posted.headers["Location"].startswith(f"/mq{MESSAGES}?ids=")
    assert client.get(posted.headers["Location"]).json()["messages"][0]["body"] == 1
    assert client.get("/mq/docs").status_code == 200


def test_a_lifespan_begins_and_ends(app: FastAPI) -> None:
    with TestClient(app) as client:
        assert client.get("/healthz").status_code == 204
