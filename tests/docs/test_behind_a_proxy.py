"""Each recipe of the page, run by its program: identity, links, pre-signed requests, hang-ups."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.docs.pages import blocks, read
from tests.proxies import proxy
from tests.service import Service, free_port

PAGE = read("behind-a-proxy.md")
PROGRAMS = {"nginx": "nginx", "haproxy": "haproxy", "caddy": "caddyfile"}
CLIENT = {"Client-ID": "3381af922b9e11e3b19171861300734c"}
VICTIM = CLIENT | {"X-Project-ID": "victim"}
DEMO = ("demo", "change-me")
END_SECONDS = 10
"""Half of the wait that ends when its client hangs up."""


@dataclass(frozen=True)
class Site:
    """The address of clients, and how the proxy knows them."""

    root: str
    service: Service
    session: requests.Session
    context: ssl.SSLContext | None
    directory: Path

    def call(self, method: str, link: str, **options: object) -> requests.Response:
        """Follow a link as clients do: from the root of the site."""
        options = {"auth": DEMO, "headers": VICTIM, "timeout": 30} | options
        return self.session.request(method, urljoin(self.root, link), **options)  # type: ignore[arg-type]

    def connect(self) -> socket.socket:
        host, port = re.match(r"https?://([\d.]+):(\d+)", self.root).groups()  # type: ignore[union-attr]
        connection = socket.create_connection((host, int(port)), 10)
        return (
            self.context.wrap_socket(connection, server_hostname=host)
            if self.context
            else connection
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With the page's settings, and a log that tells of every answer."""
    [settings] = [block for block in blocks(PAGE, "sh") if "ZAQAR_PUBLIC_URL" in block]
    environ = dict(line.split("=", 1) for line in settings.split())
    running = Service(
        tmp_path_factory.mktemp("service") / "data", environ=environ | {"ZAQAR_LOG_LEVEL": "debug"}
    )
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module", params=PROGRAMS)
def site(
    request: pytest.FixtureRequest, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    program = request.param
    directory = tmp_path_factory.mktemp("site")
    port = free_port()
    [recipe] = blocks(PAGE, PROGRAMS[program])
    configuration = _as_here(recipe, port, service.port, directory)
    is_secure = program != "caddy"  # Caddy's certificate comes from the network.
    certificate = _certificate(directory)
    context = ssl.create_default_context(cafile=str(certificate)) if is_secure else None
    root = f"{'https' if is_secure else 'http'}://127.0.0.1:{port}"
    with (
        proxy(program, configuration, port, directory / "proxy"),
        requests.Session() as session,
    ):
        session.trust_env = False
        session.verify = str(certificate)
        yield Site(f"{root}/messaging/", service, session, context, directory)


def _as_here(recipe: str, port: int, service_port: int, directory: Path) -> str:
    """The recipe with this machine's ports and files for those of a real one."""
    (directory / "users").write_text(f"{DEMO[0]}:{{PLAIN}}{DEMO[1]}\n")
    for shown, here in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("bind :443 ssl", f"bind 127.0.0.1:{port} ssl"),
        ("mq.example.org {", f"http://:{port} {{\n    bind 127.0.0.1"),
        ("/etc/nginx/zaqar.crt", f"{directory}/pem"),
        ("/etc/nginx/zaqar.key", f"{directory}/pem"),
        ("/etc/haproxy/zaqar.pem", f"{directory}/pem"),
        ("/etc/nginx/zaqar.users", f"{directory}/users"),
        ("/var/log/nginx/zaqar.log", f"{directory}/log"),
        ("127.0.0.1:8888", f"127.0.0.1:{service_port}"),
    ):
        recipe = recipe.replace(shown, here)
    return recipe


def _certificate(directory: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_the_project_is_that_of_the_password(site: Site) -> None:
    unknown = site.call("PUT", "v2/queues/q", auth=None)
    wrong = site.call("PUT", "v2/queues/q", auth=("victim", "change-me"))
    site.call("PUT", "v2/queues/mine", headers=VICTIM | {"X-Tenant-Id": "victim"})

    assert (unknown.status_code, wrong.status_code) == (401, 401)
    direct = requests.get(f"{site.service.url}/v2/queues", headers=VICTIM, timeout=30)
    assert direct.json()["queues"] == []
    mine = site.call("GET", "v2/queues").json()["queues"]
    assert "/messaging/v2/queues/mine" in [queue["href"] for queue in mine]


def test_requests_under_the_name_of_the_site_are_answered(site: Site) -> None:
    answer = site.call("GET", "v2/queues", headers=VICTIM | {"Host": "mq.example.org"})

    assert answer.status_code == 200


def test_the_endpoint_as_clients_are_told_it_answers_with_the_versions(site: Site) -> None:
    answer = site.session.get(site.root.rstrip("/"), auth=DEMO, headers=VICTIM, timeout=30)

    assert answer.status_code == 300
    assert "2" in [each["id"] for each in answer.json()["versions"]]


def test_links_can_be_followed(site: Site) -> None:
    versions = site.call("GET", "").json()["versions"]
    homes = [site.call("GET", version["links"][0]["href"]) for version in versions]
    posted = site.call(
        "POST", "v2/queues/linked/messages", json={"messages": [{"body": 1}, {"body": 2}]}
    )
    page = site.call("GET", "v2/queues/linked/messages?echo=true&limit=1").json()
    following = site.call("GET", page["links"][0]["href"]).json()

    assert {home.status_code for home in homes} == {200}
    assert len(site.call("GET", posted.headers["Location"]).json()["messages"]) >= 2
    assert [message["body"] for message in following["messages"]] == [2]
    assert site.call("GET", page["messages"][0]["href"]).json()["body"] == 1


def test_a_pre_signed_request_needs_no_password_and_a_forged_one_is_refused(site: Site) -> None:
    shared = site.call("POST", "v2/queues/shared/share", json={"methods": ["GET"]}).json()
    signed = CLIENT | {
        "X-Project-ID": "demo",
        "URL-Signature": shared["signature"],
        "URL-Paths": ",".join(shared["paths"]),
        "URL-Methods": "GET",
        "URL-Expires": shared["expires"],
    }

    [path] = shared["paths"]
    assert site.call("GET", path, auth=None, headers=signed).status_code == 200
    for forged in ({"X-Project-ID": "victim"}, {"URL-Signature": "0" * 64}, {"URL-Signature": ""}):
        answer = site.call("GET", path, auth=None, headers=signed | forged)
        assert answer.status_code in (401, 404), forged


@pytest.mark.parametrize("page", ["confirm", "unsubscribe"])
def test_the_links_of_mails_need_no_password(site: Site, page: str) -> None:
    answer = site.call("GET", f"v2/{page}?token=none", auth=None)
    other = site.call("GET", f"v2/{page}/x", auth=None)

    assert answer.status_code == 404
    assert "This link does not work any more" in answer.text
    assert other.status_code == 401
    log = site.directory / "log"
    assert not log.exists() or "token=" not in log.read_text()


def test_a_browser_follows_a_queue_by_a_signature_in_the_query(site: Site) -> None:
    shared = site.call("POST", "v2/queues/followed/share", json={"methods": ["GET"]}).json()
    [path] = shared["paths"]
    query = {
        "url_signature": shared["signature"],
        "url_paths": path,
        "url_methods": "GET",
        "url_expires": shared["expires"],
        "project_id": "demo",
        "client_id": CLIENT["Client-ID"],
        "echo": "true",
    }
    options = {"auth": None, "headers": {"Accept": "text/event-stream"}, "stream": True}

    forged = site.call("GET", path, params=query | {"url_signature": "0" * 64}, **options)
    listed = site.call("GET", path, params=query, auth=None, headers=CLIENT)
    with site.call("GET", path, params=query, **options) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith(b"retry: ")
        site.call("POST", "v2/queues/followed/messages", json={"messages": [{"body": "now"}]})
        event = next(line for line in lines if line.startswith(b"data: "))

    assert (forged.status_code, listed.status_code) == (404, 400)
    assert b'"body":"now"' in event
    log = site.directory / "log"
    assert not log.exists() or shared["signature"] not in log.read_text()


def test_a_post_over_the_limit_is_the_service_s_400(site: Site) -> None:
    answer = site.call("POST", "v2/queues/large/messages", data=b"x" * 1_000_000)

    assert (answer.status_code, answer.json()["title"]) == (400, "Invalid API request")


def test_the_documentation_is_served_below_the_prefix(site: Site) -> None:
    page = site.call("GET", "docs").text
    document = site.call("GET", "openapi.json").json()

    for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert site.call("GET", urljoin("docs", asset)).status_code == 200, asset
    assert urljoin("/messaging/openapi.json", document["servers"][0]["url"]) == "/messaging/"


def test_who_hangs_up_while_waiting_is_noticed(site: Site) -> None:
    answered = _claims_answered(site)
    request = (
        "POST /messaging/v2/queues/empty/claims?wait=20 HTTP/1.1\r\nHost: x\r\n"
        "Client-ID: 3381af922b9e11e3b19171861300734c\r\nContent-Length: 2\r\n"
        "Authorization: Basic ZGVtbzpjaGFuZ2UtbWU=\r\n\r\n{}"
    )

    with site.connect() as client:
        client.sendall(request.encode())
        time.sleep(0.5)  # A request that hangs up before it arrives would show nothing.
        assert _claims_answered(site) == answered

    deadline = time.monotonic() + END_SECONDS
    while _claims_answered(site) == answered:
        assert time.monotonic() < deadline, "The wait goes on"
        time.sleep(0.05)


def _claims_answered(site: Site) -> int:
    return site.service.log.read_text().count("route=/v2/queues/{queue_name}/claims ")


async def test_a_websocket_is_of_the_project_that_the_proxy_names(site: Site) -> None:
    frame = {"action": "queue_get", "headers": VICTIM, "body": {"queue_name": "socket"}}
    password = b64encode(":".join(DEMO).encode()).decode()

    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Basic {password}"}) as http,
        http.ws_connect(f"{site.root}v2", ssl=site.context or True) as client,
    ):
        await client.send_json(frame)
        stranger = await client.receive_json(timeout=10)
        await client.send_json(frame | {"headers": CLIENT})
        own = await client.receive_json(timeout=10)

    assert (stranger["headers"], own["headers"]) == ({"status": 403}, {"status": 200})


async def test_a_websocket_needs_the_password(site: Site) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{site.root}v2", ssl=site.context or True)

    assert refused.value.status == 401
