"""Tokens of a real `up` on all addresses, through its admin socket and the command line."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1 import session as keystone
from keystoneauth1 import token_endpoint
from openstack import connection

from tests.service import Service, command, free_port, outside_environ
from zaqar_notify.client import Client, Forbidden, Unauthorized

REVOKED_SECONDS = 5
TOKEN = re.compile(r"zqn_[0-9A-Za-z]{49}")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("tokens") / "data", host="0.0.0.0")
    service.start()
    yield service
    assert service.stop() == 0, service.log.read_text()


def run(
    *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=outside_environ() | dict(environ or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def token(service: Service, *arguments: str) -> str:
    made = run("token", "create", *arguments, "--data", str(service.data))
    assert TOKEN.fullmatch(made.stdout.strip()), made.stderr
    return made.stdout.strip()


def listed(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        run("token", "list", "--json", "--data", str(service.data)).stdout
    )
    return found


def test_the_first_start_on_all_addresses_prints_an_operator_s_token_and_no_later_one_does(
    service: Service,
) -> None:
    [printed] = set(TOKEN.findall(service.log.read_text()))

    service.restart()

    assert set(TOKEN.findall(service.log.read_text())) == {printed}
    with Client(service.url, "anybody", token=printed) as operator:
        operator.post("q", 1)
        assert [queue.name for queue in operator.queues()] == ["q"]
    with Client(service.url, "anybody") as nobody, pytest.raises(Unauthorized):
        nobody.stats("q")


def test_the_printed_commands_name_an_address_by_which_this_host_reaches_the_service(
    service: Service,
) -> None:
    tried = service.log.read_text().rpartition("Try:")[2]

    assert "http://127.0.0.1:" in tried
    assert "0.0.0.0" not in tried


def test_a_refused_command_says_how_it_gets_a_token_and_names_a_project(service: Service) -> None:
    operator = token(service, "--scope", "operator")

    without_token = run("queue", "list", environ={"ZAQAR_URL": service.url})
    without_project = run("--token", operator, "queue", "list", environ={"ZAQAR_URL": service.url})

    assert "ZAQAR_TOKEN" in without_token.stderr
    assert "token create" in without_token.stderr
    assert "ZAQAR_PROJECT" in without_project.stderr


def test_a_refusal_by_a_rule_names_the_rule_and_the_scope(service: Service) -> None:
    reader = token(service, "--project", "p1", "--scope", "reader")

    refused = run("--token", reader, "post", "q", "1", environ={"ZAQAR_URL": service.url})

    assert "messages:create" in refused.stderr
    assert "reader" in refused.stderr


def test_the_client_and_the_command_line_send_a_token_that_names_the_project(
    service: Service,
) -> None:
    secret = token(service, "--project", "p1", "--queue", "orders.*")
    environ = {"ZAQAR_URL": service.url, "ZAQAR_TOKEN": f"{secret}\n"}

    assert run("post", "orders.eu", "1", environ=environ).returncode == 0
    assert run("--token", secret, "queue", "stats", "orders.eu", environ=environ).returncode == 0
    refused = run("post", "invoices", "1", environ=environ)
    foreign = run("--project", "p2", "post", "orders.eu", "1", environ=environ)
    with Client(service.url, token=secret) as client:
        assert client.stats("orders.eu").total == 1
    with Client(service.url, "p2", token=secret) as client, pytest.raises(Forbidden):
        client.stats("orders.eu")

    assert (refused.returncode, foreign.returncode) == (1, 1)
    assert "'orders.*'" in refused.stderr
    assert "X-Project-ID" in foreign.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")
@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning")
def test_openstacksdk_works_with_a_tenant_token_and_without_a_project(service: Service) -> None:
    secret = token(service, "--project", "sdk")
    session = keystone.Session(auth=token_endpoint.Token(f"{service.url}/v2", secret))
    live = connection.Connection(session=session)

    live.message.create_queue(name="jobs")
    [href] = live.message.post_message("jobs", [{"body": 1, "ttl": 300}])
    posted = live.message.get_message("jobs", href.rpartition("/")[2])
    live.close()
    session.session.close()

    assert posted.body == 1


def test_a_revoked_token_stops_within_seconds(service: Service) -> None:
    secret = token(service, "--project", "p1", "--ttl", "90d", "--name", "short")
    [mine] = [each for each in listed(service) if each["name"] == "short"]
    with Client(service.url, token=secret) as client:
        client.stats("q")

        run("token", "revoke", mine["id"], "--data", str(service.data))

        deadline = time.monotonic() + REVOKED_SECONDS
        while is_believed(client):
            assert time.monotonic() < deadline
    assert mine["id"] not in [each["id"] for each in listed(service)]
    again = run("token", "revoke", mine["id"], "--data", str(service.data))
    assert (again.returncode, "no token" in again.stderr) == (1, True)


def test_the_directory_of_data_has_no_token(service: Service) -> None:
    secret = token(service, "--project", "p1")

    for path in service.data.rglob("*"):
        assert not path.is_file() or secret[4:].encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--project", "p", "--ttl", "soon"), "--ttl 'soon'"),
        (("--project", "p", "--ttl", "1s"), "ttl must be from 60"),
        (("--project", "p", "--queue", "a/b"), "'a/b' is not a pattern"),
        (("--project", ""), "can't be named"),
        ((), "needs a project"),
    ],
)
def test_a_token_that_can_not_be_is_refused_with_a_sentence(
    service: Service, arguments: tuple[str, ...], sentence: str
) -> None:
    refused = run("token", "create", *arguments, "--data", str(service.data))

    assert refused.returncode in (1, 2)
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("program", ["up", "api"])
def test_a_start_that_would_believe_everybody_who_can_reach_it_is_refused(
    tmp_path: Path, program: str
) -> None:
    environ = {
        "ZAQAR_AUTH": "none",
        "ZAQAR_STORE_URI": f"sqlite:///{tmp_path}/store.db",
        "ZAQAR_BROKER_URI": "redis://127.0.0.1:1/0",
    }
    data = ("--data", str(tmp_path)) if program == "up" else ()

    refused = run(program, "--host", "0.0.0.0", "--port", str(free_port()), *data, environ=environ)

    assert refused.returncode == 1
    assert "ZAQAR_TRUST_PROXY=true" in refused.stderr


def is_believed(client: Client) -> bool:
    try:
        client.stats("q")
    except Unauthorized:
        return False
    return True
