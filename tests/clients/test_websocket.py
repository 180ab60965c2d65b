"""python-zaqarclient's WebSocket transport, at a port of the WebSocket's own, as Zaqar's server has one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from zaqarclient.transport import errors, get_transport_for, request

from tests.service import Service, free_port
from zaqar_notify.client import Client
from zaqar_notify.clock import new_id

pytestmark = [
    pytest.mark.client("zaqarclient 4"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A service, and the address of its WebSocket."""
    port = free_port()
    service = Service(
        tmp_path_factory.mktemp("service") / "data", environ={"ZAQAR_WEBSOCKET_PORT": str(port)}
    )
    service.start()
    yield service, f"ws://127.0.0.1:{port}/any/path"
    assert service.stop() == 0, service.log.read_text()


class Socket:
    """The transport of one project, and its requests."""

    def __init__(self, transport: Any, endpoint: str, project: str) -> None:
        self.transport = transport
        self.project = project
        self._endpoint = endpoint

    def ask(self, action: str, **body: object) -> Any:
        """Send a request; the body of the answer."""
        content = json.dumps(body) if body else None
        return json.loads(
            self.transport.send(request.Request(self._endpoint, action, content=content)).content
        )


@pytest.fixture
def socket(served: tuple[Service, str]) -> Iterator[Socket]:
    _, endpoint = served
    project = new_id()
    options = {"auth_opts": {"options": {"os_auth_token": "any", "os_project_id": project}}}
    with get_transport_for(endpoint, options=options, version=2) as transport:
        yield Socket(transport, endpoint, project)


def test_queues_messages_and_claims_are_reached(socket: Socket) -> None:
    assert socket.ask("queue_create", queue_name="jobs") == "Queue jobs created."
    posted = socket.ask("message_post", queue_name="jobs", messages=[{"body": "do it", "ttl": 300}])
    claimed = socket.ask("claim_create", queue_name="jobs", ttl=100, grace=60)
    message = claimed["messages"][0]
    under = {"queue_name": "jobs", "message_id": message["id"], "claim_id": claimed["claim_id"]}

    assert posted["message_ids"] == [message["id"]]
    assert message["body"] == "do it"
    assert socket.ask("message_delete", **under) == {}
    assert socket.ask("queue_list") == {"queues": [{"name": "jobs"}]}


def test_errors_become_the_client_s_exceptions(socket: Socket) -> None:
    with pytest.raises(errors.ResourceNotFound, match="nowhere"):
        socket.ask("message_get", queue_name="nowhere", message_id="f" * 24)
    with pytest.raises(errors.MalformedRequest, match="limit"):
        socket.ask("queue_list", limit=100)
    socket.ask("subscription_create", queue_name="q", subscriber="http://a.example")
    with pytest.raises(errors.ConflictError):
        socket.ask("subscription_create", queue_name="q", subscriber="http://a.example")


def test_notifications_are_read_as_the_client_reads_them(
    served: tuple[Service, str], socket: Socket
) -> None:
    socket.ask("subscription_create", queue_name="news", ttl=600)

    with Client(served[0].url, project=socket.project) as client:
        client.post("news", {"title": "hello"})

    assert socket.transport.recv() == {
        "body": {"title": "hello"},
        "ttl": 3600,
        "queue_name": "news",
        "Message_Type": "Notification",
    }


def test_the_port_serves_http_too(served: tuple[Service, str]) -> None:
    port = served[1].partition("127.0.0.1:")[2].partition("/")[0]

    assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=10).status_code == 204
