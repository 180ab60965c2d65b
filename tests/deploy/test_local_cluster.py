"""`make cluster`: works, goes on when parts of it are killed, stops whole, and starts again."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from deploy.local_cluster import main
from tests.deploy.local_cluster import STOP_SECONDS, LocalCluster
from tests.deploy.terminals import Terminals, has_printed, things_to_try
from tests.deploy.webhooks import Webhooks, receiving
from tests.mongod import require_mongod
from tests.redis_server import require_redis
from tests.service import free_port, has_ended
from zaqar_notify.client import Client
from zaqar_notify.client.transport import PATIENT_PAUSES_SECONDS

ARRIVES_SECONDS = 20
"""A worker that is killed keeps its lease on a delivery for the half of it."""
AGAIN_SECONDS = 15


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    require_mongod()
    require_redis()
    cluster = LocalCluster(
        tmp_path_factory.mktemp("cluster") / "data",
        environ={"ZAQAR_DELIVERY_LEASE_SECONDS": str(ARRIVES_SECONDS // 2)},
    )
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.url, pauses_seconds=PATIENT_PAUSES_SECONDS) as client:
        yield client


@pytest.fixture
def webhooks() -> Iterator[Webhooks]:
    with receiving() as webhooks:
        yield webhooks


def bodies(client: Client, queue: str) -> list[object]:
    return [message.body for message in client.messages(queue, echo=True, limit=20).messages]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_says_where_its_processes_are(cluster: LocalCluster) -> None:
    assert list(cluster.pids()) == [
        *("mongod-1", "mongod-2", "mongod-3", "redis", "api", "worker-1", "worker-2")
    ]


def test_its_servers_leave_nothing_in_a_directory_that_all_users_share(
    cluster: LocalCluster,
) -> None:
    ports = [address.rpartition(":")[2] for address in cluster.members()]

    assert len(ports) == 3
    assert not [port for port in ports if Path(f"/tmp/mongodb-{port}.sock").exists()]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_what_it_says_to_try_works_as_it_is_pasted(
    cluster: LocalCluster, shell: str, tmp_path: Path
) -> None:
    printed = cluster.printed()

    with Terminals(shell, tmp_path) as terminals:
        post, browse, follow, receive, subscribe, post_again = things_to_try(printed, free_port())

        assert " 201 " in terminals.paste(post)
        assert "hi" in terminals.paste(browse)
        follower = terminals.paste_and_leave(follow, until_it_says='"hi"')
        receiver = terminals.paste_and_leave(receive, until_it_says="Waiting for webhooks")
        terminals.paste(subscribe)
        terminals.paste(post_again)

        for process in (follower, receiver):
            process.wait_until(partial(has_printed, process, "hi again"))


def test_it_says_where_its_parts_listen_and_how_to_ask_what_is_wrong(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    printed = cluster.printed()
    (first, last) = re.findall(
        r"metrics +\S+:(\d+)/metrics, and the ports to (\d+)$", printed, re.M
    )[0]
    [doctor] = re.findall(r"^  (ZAQAR_CONFIG_FILE=.* doctor)$", printed, re.M)

    with Terminals("bash", tmp_path) as terminals:
        found = terminals.paste(doctor)

    assert all(re.search(rf"^ok +{check}: ", found, re.M) for check in ("store", "broker"))
    assert re.search(r"^  store +mongodb://\S+replicaSet=rs0$", printed, re.M)
    assert re.search(r"^  broker +redis://\S+$", printed, re.M)
    for port in range(int(first), int(last) + 1):
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as shown:
            assert b"zaqar" in shown.read()


def test_a_message_reaches_its_webhook(client: Client, webhooks: Webhooks) -> None:
    client.subscribe("greetings", webhooks.url)

    client.post("greetings", "hello")

    assert webhooks.take_until({"hello"}, within_seconds=ARRIVES_SECONDS) == {"hello"}


def test_it_works_on_without_a_worker_and_the_primary_and_starts_them_again(
    cluster: LocalCluster, client: Client, webhooks: Webhooks
) -> None:
    client.subscribe("orders", webhooks.url)
    client.post("orders", "before")
    primary = cluster.primary()

    cluster.kill("worker-1")
    cluster.kill(primary)
    client.post("orders", "after")

    assert bodies(client, "orders") == ["before", "after"]
    wanted = {"before", "after"}
    assert webhooks.take_until(wanted, within_seconds=ARRIVES_SECONDS) == wanted
    for name in ("worker-1", primary):
        cluster.wait_for_word(f"{name} is process ", within_seconds=AGAIN_SECONDS)


def test_two_clusters_on_one_directory_are_refused(
    cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    exit_code = main(["--data", str(cluster.data), "--port", "0"])

    assert exit_code == 1
    assert "A cluster runs on" in capsys.readouterr().err


def test_a_port_that_is_in_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_mongod()
    require_redis()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        exit_code = main(["--data", str(tmp_path / "data"), "--port", str(port)])

    assert exit_code == 1
    assert (
        capsys.readouterr().err
        == f'Port {port} is in use; choose another: make cluster ARGS="--port PORT"\n'
    )


def test_another_port_than_the_data_knows_is_refused(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    (copy / "cluster.json").write_bytes((cluster.data / "cluster.json").read_bytes())

    exit_code = main(["--data", str(copy), "--port", "0", "--mongo-port", str(free_port())])

    assert exit_code == 1
    assert "leave out --mongo-port" in capsys.readouterr().err


def test_a_missing_program_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.programs.mongod", lambda: None)

    exit_code = main(["--data", str(tmp_path / "data"), "--port", "0"])

    assert exit_code == 1
    assert "There is no mongod: install it" in capsys.readouterr().err


def test_ctrl_c_stops_all_of_it_and_the_next_start_finds_the_messages(
    cluster: LocalCluster, client: Client
) -> None:
    client.post("kept", "stays")
    pids = cluster.pids()

    assert cluster.stop() == 0

    assert not [name for name, pid in pids.items() if is_running(pid)]
    assert "killed" not in cluster.printed()

    cluster.start("--seconds", "1")

    assert bodies(client, "kept") == ["stays"]
    assert cluster.process is not None
    assert has_ended(cluster.process, within_seconds=STOP_SECONDS), cluster.printed()
    assert cluster.process.wait() == 0
