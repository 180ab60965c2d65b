"""`zaqar-notify up` and `api` with a certificate: as an operator starts them, and clients call them."""

from __future__ import annotations

import http.client
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cluster.processes import Process
from tests.cluster.test_api_processes import refusal
from tests.programs import program
from tests.service import command, free_port, outside_environ
from tests.sinks.certificates import made
from zaqar_notify.client import BadRequest, Client, ServiceUnreachable

SERVES = "zaqar-notify serves https://127.0.0.1:"


def with_pem(pem: Path) -> dict[str, str]:
    return {"ZAQAR_TLS_CERT_FILE": str(pem), "ZAQAR_TLS_KEY_FILE": str(pem)}


class Served:
    """A process that serves HTTPS on a port, and its certificate."""

    def __init__(self, process: Process, port: int, pem: Path) -> None:
        self.process = process
        self.port = port
        self.pem = pem
        self.url = f"https://127.0.0.1:{port}"
        self._connections: list[http.client.HTTPSConnection] = []

    def start(self) -> None:
        self.process.launch()
        self.process.wait_until(lambda: SERVES in self.process.printed())

    def connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.pem))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=10, context=context
        )
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def shown(self) -> str:
        """The certificate that a new connection is shown."""
        return ssl.get_server_certificate(("127.0.0.1", self.port), timeout=10)

    def renew(self, directory: Path, *, days: float = 1) -> str:
        """Put a new pair in the place of the old one, and tell the process; the certificate."""
        self.pem.write_bytes(made(directory, "renewed", days=days).read_bytes())
        self.process.send(signal.SIGHUP)
        return certificate_in(self.pem)


def certificate_in(pem: Path) -> str:
    text = pem.read_text()
    return text[text.index("-----BEGIN CERTIFICATE") :]


def status(connection: http.client.HTTPSConnection) -> int:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`up` with a certificate."""
    directory = tmp_path_factory.mktemp("tls")
    pem = made(directory, "service")
    port = free_port()
    arguments = command("up", "--port", str(port), "--data", str(directory / "data"))
    process = Process(arguments, environ=with_pem(pem), log=directory / "up.log")
    served = Served(process, port, pem)
    served.start()
    yield served
    served.close()
    process.ask_to_stop()
    process.end()
    assert "Traceback" not in process.printed()


def test_our_client_curl_and_the_commands_trust_a_private_ca(
    up: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(up.url, ca_file=str(up.pem)) as client:
        client.post("q", {"a": 1})
    printed = run("queue", "list", environ={"ZAQAR_URL": up.url, "ZAQAR_CA_FILE": str(up.pem)})
    curl = [program("curl"), "--silent", "--fail", "--cacert", str(up.pem), f"{up.url}/readyz"]
    ready = subprocess.run(curl, capture_output=True, text=True, timeout=30, check=True).stdout
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(up.pem))
    with Client(up.url) as client:
        client.ping()

    assert "q" in printed.stdout.split()
    assert ready == '{"ready":true}'


def test_a_certificate_that_is_not_trusted_is_explained(up: Served, tmp_path: Path) -> None:
    other = made(tmp_path, "other")

    for ca_file, expected in [(None, "--ca-file"), (str(other), "--ca-file"), ("/no", "no file")]:
        with pytest.raises(ServiceUnreachable, match=expected):
            Client(up.url, ca_file=ca_file, pauses_seconds=()).ping()


def test_a_client_of_an_expired_certificate_hears_that_the_operator_must_renew_it(
    up: Served, tmp_path: Path
) -> None:
    expired = up.renew(tmp_path, days=-1)
    up.process.wait_until(lambda: up.shown() == expired)

    with pytest.raises(ServiceUnreachable, match="The operator of the service must renew it"):
        Client(up.url, ca_file=str(up.pem), pauses_seconds=()).ping()

    assert "certificate_expired" in up.process.printed()
    good = up.renew(tmp_path)
    up.process.wait_until(lambda: up.shown() == good)


def test_a_renewed_certificate_is_served_at_sighup_and_connections_go_on(
    up: Served, tmp_path: Path
) -> None:
    connection = up.connect()
    assert status(connection) == 204
    kept = connection.sock

    renewed = up.renew(tmp_path)

    up.process.wait_until(lambda: up.shown() == renewed)
    assert status(connection) == 204
    assert connection.sock is kept
    assert status(up.connect()) == 204


def test_a_pair_that_does_not_fit_changes_nothing_but_the_log(up: Served) -> None:
    before = up.shown()
    kept = up.pem.read_bytes()

    up.pem.write_text("half of a fi")
    up.process.send(signal.SIGHUP)

    up.process.wait_until(lambda: "certificate_refused" in up.process.printed())
    assert "ZAQAR_TLS_CERT_FILE" in up.process.printed()
    assert up.shown() == before
    up.pem.write_bytes(kept)


def test_no_delivery_reaches_the_own_https_listener(up: Served) -> None:
    with Client(up.url, ca_file=str(up.pem)) as client, pytest.raises(BadRequest):
        client.subscribe("q", f"https://127.0.0.1:{up.port}/v2/queues/q/messages")


def test_links_and_the_printed_commands_name_https(up: Served) -> None:
    printed = up.process.printed()

    assert f"--cacert {up.pem}" in printed
    assert f"--url {up.url} --ca-file {up.pem}" in printed
    assert "http://127.0.0.1" not in printed


def test_a_pair_that_can_not_be_used_refuses_the_start(tmp_path: Path) -> None:
    arguments = ("up", "--port", "0", "--data", str(tmp_path / "data"))

    assert "ZAQAR_TLS_CERT_FILE" in refusal(arguments, with_pem(tmp_path / "absent.pem"))


def run(*arguments: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=outside_environ() | dict(environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
