"""Subscribers that are other services of a cloud (`trust+http:`): they get a token of the user who subscribed.

Keystone is a real one. The receivers validate the tokens there, as Mistral, Senlin and Heat do.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
import requests

from tests.cloud import Cloud
from tests.keystone import User
from tests.service import Service, command, free_port, outside_environ
from zaqar_notify.clock import new_id

ARRIVES_SECONDS = 30
LONGEST_WAIT_SECONDS = 20
NOTIFICATION = {
    "ttl": 300,
    "body": {"state": "ALARM"},
    "Message_Type": "Notification",
    "queue_name": "alarms",
}


class Arrived(NamedTuple):
    path: str
    user: str | None
    project: str | None
    roles: set[str]
    headers: dict[str, str]
    body: Any


class OpenStackService:
    """A service of the cloud on a port of its own. It answers 401 to tokens that Keystone does not know."""

    def __init__(self, cloud: Cloud, port: int, *, redirects_to: str = "") -> None:
        self.arrived: queue.Queue[Arrived] = queue.Queue()
        self.url = f"http://127.0.0.1:{port}"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                token = self.headers.get("X-Auth-Token")
                known = cloud.keystone.validated(token) if token else None
                arrived = Arrived(
                    self.path,
                    known["user"]["id"] if known else None,
                    known["project"]["id"] if known else None,
                    {role["name"] for role in known["roles"]} if known else set(),
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(body),
                )
                outer.arrived.put(arrived)
                self.send_response(307 if redirects_to else 201 if known else 401)
                if redirects_to:
                    self.send_header("Location", redirects_to)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)

    def take(self, path: str) -> Arrived:
        """The next request for the path; deliveries of other tests may be tried again meanwhile."""
        while True:
            arrived = self.arrived.get(timeout=ARRIVES_SECONDS)
            if arrived.path == path:
                return arrived


@contextmanager
def serving(cloud: Cloud, port: int, *, redirects_to: str = "") -> Iterator[OpenStackService]:
    service = OpenStackService(cloud, port, redirects_to=redirects_to)
    with service.server:
        thread = threading.Thread(target=service.server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield service
        finally:
            service.server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return Cloud()


PORTS = {kind: free_port() for kind in ("workflow", "clustering", "orchestration", "allowed")}
PATHS = {
    "workflow": "/v2",
    "clustering": "/cluster",
    "orchestration": "/heat-api/v1/$(project_id)s",
}


@pytest.fixture(scope="module")
def zaqar(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service; it and others are in the catalogue, and one is on its operator's list."""
    allowed = f"http://127.0.0.1:{PORTS['allowed']}/hooks"
    environ = cloud.environ() | {"ZAQAR_TRUST_TARGETS": allowed}
    service = Service(tmp_path_factory.mktemp("trusts") / "data", environ=environ)
    urls = {kind: f"http://127.0.0.1:{PORTS[kind]}{path}" for kind, path in PATHS.items()}
    entries = [
        cloud.keystone.endpoint(kind, kind, url)
        for kind, url in {**urls, "messaging": service.url}.items()
    ]
    service.start()
    yield service
    for entry in entries:
        cloud.keystone.forget_service(entry)
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


@pytest.fixture
def user(cloud: Cloud) -> User:
    return cloud.keystone.user("creator")


class Caller:
    """Sends requests with a token of the user."""

    def __init__(self, zaqar: Service, cloud: Cloud, user: User) -> None:
        self._zaqar = zaqar
        self.token = cloud.keystone.token(user)

    def send(self, method: str, path: str, body: object = None) -> requests.Response:
        headers = {"X-Auth-Token": self.token, "Client-ID": new_id()}
        url = f"{self._zaqar.url}/v2/queues/{path}"
        return requests.request(method, url, json=body, headers=headers, timeout=60)

    def subscribe(self, subscriber: str, **options: object) -> str:
        body = {"subscriber": subscriber, "ttl": 600, "options": options}
        answer = self.send("POST", "alarms/subscriptions", body)
        assert answer.status_code == 201, answer.text
        return f"alarms/subscriptions/{answer.json()['subscription_id']}"

    def refused(self, subscriber: str, **options: object) -> str:
        """Why the subscription is refused."""
        body = {"subscriber": subscriber, "ttl": 600, "options": options}
        answer = self.send("POST", "alarms/subscriptions", body)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["description"])

    def post(self) -> None:
        body = {"messages": [{"body": NOTIFICATION["body"], "ttl": 300}]}
        assert self.send("POST", "alarms/messages", body).status_code == 201


@pytest.fixture
def caller(zaqar: Service, cloud: Cloud, user: User) -> Caller:
    return Caller(zaqar, cloud, user)


def test_mistral_runs_a_workflow_for_the_user(cloud: Cloud, caller: Caller, user: User) -> None:
    template = {
        "workflow_id": "w1",
        "params": {"env": {"notification": "$zaqar_message$"}},
        "input": {},
    }
    with serving(cloud, PORTS["workflow"]) as mistral:
        caller.subscribe(f"trust+{mistral.url}/v2/executions", post_data=json.dumps(template))

        caller.post()

        arrived = mistral.take("/v2/executions")
    assert (arrived.user, arrived.project) == (user.id, user.project)
    assert arrived.roles == {"creator"}
    assert arrived.headers["content-type"] == "application/json"
    assert arrived.body == template | {"params": {"env": {"notification": NOTIFICATION}}}


def test_senlin_scales_a_cluster_for_the_user(cloud: Cloud, caller: Caller, user: User) -> None:
    path = "/cluster/v1/webhooks/w1/trigger?V=1&params=x"
    with serving(cloud, PORTS["clustering"]) as senlin:
        caller.subscribe(f"trust+{senlin.url}{path}")

        caller.post()

        arrived = senlin.take(path)
    assert (arrived.user, arrived.body) == (user.id, NOTIFICATION)


def test_heat_takes_a_signal_below_the_users_project(
    cloud: Cloud, caller: Caller, user: User
) -> None:
    path = f"/heat-api/v1/{user.project}/stacks/s/1/resources/r/signal"
    with serving(cloud, PORTS["orchestration"]) as heat:
        caller.subscribe(f"trust+{heat.url}{path}")

        caller.post()

        arrived = heat.take(path)
    assert (arrived.user, arrived.body) == (user.id, NOTIFICATION)


def test_a_message_comes_back_to_another_queue_of_this_service(
    zaqar: Service, caller: Caller, user: User
) -> None:
    template = {"messages": [{"body": "$zaqar_message$", "ttl": 60}]}
    caller.subscribe(
        f"trust+{zaqar.url}/v2/queues/copies/messages",
        post_data=json.dumps(template),
        post_headers={"X-Project-ID": user.project, "Client-ID": new_id()},
    )

    caller.post()

    path = f"copies/messages?echo=true&wait={LONGEST_WAIT_SECONDS}"
    copies = caller.send("GET", path).json()["messages"]
    assert [copy["body"] for copy in copies] == [NOTIFICATION]


def test_the_operators_list_admits_an_address_that_the_catalogue_lacks(
    cloud: Cloud, caller: Caller, user: User
) -> None:
    with serving(cloud, PORTS["allowed"]) as other:
        caller.subscribe(f"trust+{other.url}/hooks/1")

        caller.post()

        assert other.take("/hooks/1").user == user.id
        assert "ZAQAR_TRUST_TARGETS" in caller.refused(f"trust+{other.url}/elsewhere")


def test_a_redirect_leads_the_token_nowhere(cloud: Cloud, caller: Caller) -> None:
    with (
        serving(cloud, free_port()) as thief,
        serving(cloud, PORTS["workflow"], redirects_to=f"{thief.url}/v2") as mistral,
    ):
        caller.subscribe(f"trust+{mistral.url}/v2/redirected")

        caller.post()

        assert mistral.take("/v2/redirected").headers["x-auth-token"]
        assert thief.arrived.empty()


@pytest.mark.parametrize("name", ["X-Auth-Token", "x-auth-token", "X_Auth_Token"])
def test_post_headers_replace_no_token(cloud: Cloud, caller: Caller, user: User, name: str) -> None:
    with serving(cloud, PORTS["workflow"]) as mistral:
        caller.subscribe(
            f"trust+{mistral.url}/v2/{name}", post_headers={name: "stolen", "X-Key": "1"}
        )

        caller.post()

        arrived = mistral.take(f"/v2/{name}")
    assert (arrived.user, arrived.headers["x-key"]) == (user.id, "1")
    assert "stolen" not in str(arrived.headers)


def test_a_subscription_without_trust_sends_no_token(cloud: Cloud, caller: Caller) -> None:
    with serving(cloud, PORTS["workflow"]) as mistral:
        caller.subscribe(f"{mistral.url}/v2/plain", trust_id="x")

        caller.post()

        assert "x-auth-token" not in mistral.take("/v2/plain").headers


def test_whoever_changes_a_subscription_gives_their_own_rights(
    zaqar: Service, cloud: Cloud, caller: Caller, user: User
) -> None:
    colleague = cloud.keystone.user("reader", project=user.project)
    with serving(cloud, PORTS["workflow"]) as mistral:
        subscription = caller.subscribe(f"trust+{mistral.url}/v2/executions")
        before = caller.send("GET", subscription).json()["options"]["trust_id"]
        change = {"subscriber": f"trust+{mistral.url}/v2/workflows"}
        others = Caller(zaqar, cloud, colleague)

        stolen = others.send("PATCH", subscription, change | {"options": {"trust_id": before}})
        changed = others.send("PATCH", subscription, change)

        assert (stolen.status_code, changed.status_code) == (400, 204)
        assert caller.send("GET", subscription).json()["options"]["trust_id"] != before
        caller.post()
        arrived = mistral.take("/v2/workflows")
    assert (arrived.user, arrived.roles) == (colleague.id, {"reader"})


def test_a_tenant_token_gives_no_rights_in_keystone(zaqar: Service, cloud: Cloud) -> None:
    headers = {"Authorization": f"Bearer {tenant_token(zaqar)}", "Client-ID": new_id()}
    body = {"subscriber": f"trust+http://127.0.0.1:{PORTS['workflow']}/v2/executions"}

    answer = requests.post(
        f"{zaqar.url}/v2/queues/q/subscriptions", json=body, headers=headers, timeout=30
    )

    assert answer.status_code == 400
    assert "a token of Keystone" in answer.json()["description"]


def tenant_token(zaqar: Service) -> str:
    ended = subprocess.run(
        command("token", "create", "--project", "p1", "--data", str(zaqar.data)),
        capture_output=True,
        text=True,
        env=outside_environ(),
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return next(word for word in ended.stdout.split() if word.startswith("zqn_"))
