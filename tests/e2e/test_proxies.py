"""Behind real proxies in their usual forms: a tenant's request is one request, and its own."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product

import pytest

from tests.clients.caller import Caller
from tests.proxies import proxy
from tests.service import Service, free_port
from zaqar_notify.clock import new_id

# Each sets the project, as one that authenticates does.
FORMS = {
    "nginx": (
        "nginx",
        """server { listen 127.0.0.1:%(port)d; client_max_body_size 0;
            location / { proxy_pass http://%(service)s; proxy_set_header X-Project-ID tenant; } }""",
    ),
    "nginx with the websocket map": (
        "nginx",
        """map $http_upgrade $connection_upgrade { default upgrade; '' close; }
        server { listen 127.0.0.1:%(port)d; client_max_body_size 0;
            location / { proxy_pass http://%(service)s; proxy_set_header X-Project-ID tenant;
                proxy_http_version 1.1; proxy_request_buffering off;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection $connection_upgrade; } }""",
    ),
    "HAProxy": (
        "haproxy",
        """defaults
    mode http
    option abortonclose
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend all
    bind 127.0.0.1:%(port)d
    http-request set-header X-Project-ID tenant
    default_backend service
backend service
    server one %(service)s""",
    ),
    "Apache": (
        "apache2",
        """Listen 127.0.0.1:%(port)d
        RequestHeader set X-Project-ID tenant
        ProxyPass / http://%(service)s/""",
    ),
    "Apache with upgrade=any": (
        "apache2",
        """Listen 127.0.0.1:%(port)d
        RequestHeader set X-Project-ID tenant
        ProxyPass / http://%(service)s/ upgrade=any""",
    ),
    "Caddy": (
        "caddy",
        """http://:%(port)d {
        bind 127.0.0.1
        reverse_proxy %(service)s {
            header_up X-Project-ID tenant
        }
        }""",
    ),
}

OFFERS = (
    "",
    "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "Connection: upgrade\r\nUpgrade: any\r\n",
)
CLIENT = "Client-ID: 3381af922b9e11e3b19171861300734c\r\n"
WAIT_SECONDS = 10


@dataclass(frozen=True)
class Proxied:
    port: int
    tenant: Caller
    """Goes through the proxy."""
    victim: Caller
    """Asks the service itself, as another project."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service") / "data")
    running.start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module", params=FORMS)
def proxied(
    request: pytest.FixtureRequest, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    program, form = FORMS[request.param]
    port = free_port()
    configuration = form % {"port": port, "service": f"127.0.0.1:{service.port}"}
    directory = tmp_path_factory.mktemp("proxy") / "proxy"
    with (
        proxy(program, configuration, port, directory),
        Caller(f"http://127.0.0.1:{port}", None) as tenant,
        Caller(service.url, "victim") as victim,
    ):
        yield Proxied(port, tenant, victim)


def request(method: str, path: str, body: bytes, headers: str, *, chunked: bool) -> bytes:
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{CLIENT}{headers}{length}\r\n\r\n"
    return head.encode() + framed


def exchange(port: int, *segments: bytes) -> list[int]:
    """The statuses of all that comes for these segments and, behind their answer, a ping."""
    ping = request("GET", "/v2/ping", b"", "Connection: close\r\n", chunked=False)
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = b""
        with suppress(ConnectionError):  # A proxy may refuse an offer and close.
            for segment in segments:
                connection.sendall(segment)
            while not is_whole(answers) and (piece := connection.recv(65536)):
                answers += piece
            connection.sendall(ping)
            while piece := connection.recv(65536):
                answers += piece
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d\d\d) ", answers)]


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


@pytest.mark.parametrize("size", [0, 70_000, 300_000])
def test_no_body_is_a_request_in_another_projects_name(proxied: Proxied, size: int) -> None:
    proxied.victim.call("PUT", "/v2/queues/theirs")
    smuggled = (
        f"DELETE /v2/queues/theirs HTTP/1.1\r\nHost: x\r\n{CLIENT}X-Project-ID: victim\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()
    body = b" " * size + smuggled * 3

    for offer, chunked in product(OFFERS, (False, True)):
        sent = request("POST", "/v2/queues/q/messages", body, offer, chunked=chunked)
        statuses = exchange(proxied.port, sent[: -len(smuggled)], sent[-len(smuggled) :])

        # Some proxies close behind a refusal, or refuse an offer themselves.
        assert statuses in ([400, 204], [400]), (offer, chunked)
        listed = proxied.victim.call("GET", "/v2/queues").json()["queues"]
        assert [queue["name"] for queue in listed] == ["theirs"], (offer, chunked)


def test_a_request_that_offers_another_protocol_is_read_whole(proxied: Proxied) -> None:
    for offer, chunked in product(OFFERS, (False, True)):
        queue = f"whole-{new_id()}"
        path = f"/v2/queues/{queue}/messages"
        body = json.dumps({"messages": [{"body": queue}]}).encode()

        statuses = exchange(proxied.port, request("POST", path, body, offer, chunked=chunked))

        page = proxied.tenant.call("GET", f"{path}?echo=true").json()
        assert statuses[0] == 201, (offer, chunked)
        assert [message["body"] for message in page["messages"]] == [queue]


def test_a_post_over_the_limit_is_a_400_each_time(proxied: Proxied) -> None:
    sent = request("POST", "/v2/queues/q/messages", b"x" * 700_000, "", chunked=False)

    assert [exchange(proxied.port, sent)[0] for _ in range(12)] == [400] * 12
