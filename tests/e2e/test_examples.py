"""The packages of `examples/`, built, installed in a new environment, and used by running services."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.redis_server import RedisServer, require_redis
from tests.service import Service, command, outside_environ
from tests.workers.office import until
from zaqar_notify.client import BadRequest, Client

EXAMPLES = Path(__file__).parents[2] / "examples"
CARD, MASKED = "4111 1111 1111 1111", "************1111"
NO_CARD = "4111 1111 1111 1112"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the three packages; it finds ours, and all that they need, in this one."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, symlinks=True)
    packages = {"base": str(directory), "platbase": str(directory)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=packages))
    (site / "ours.pth").write_text(
        f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    )
    made = directory / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(made), "install", "--quiet"]
    sources = [str(EXAMPLES / name) for name in ("filter", "sink", "driver")]
    subprocess.run([*pip, "--no-index", "--no-deps", "--no-build-isolation", *sources], check=True)
    return made


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def service(
    python: Path, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    service = Service(
        tmp_path_factory.mktemp("examples") / "data",
        environ={
            "ZAQAR_FILTERS": "cards",
            "ZAQAR_SUBSCRIBER_TYPES": "http,queue,stream",
            "STREAMS_REDIS_URI": redis.uri,
        },
        python=python,
    )
    service.start()
    yield service
    assert service.stop() == 0


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, project="demo") as client:
        yield client


def bodies(client: Client, queue: str) -> list[object]:
    return [message.body for message in client.messages(queue, echo=True).messages]


def test_the_filter_masks_numbers_of_cards(client: Client) -> None:
    client.create_queue("masked", {"card_numbers": "mask"})

    client.post(
        "masked",
        {
            "paid by": [CARD, f"to {CARD}!"],
            "order": NO_CARD,
            "as number": int(CARD.replace(" ", "")),
        },
    )

    assert bodies(client, "masked") == [
        {"paid by": [MASKED, f"to {MASKED}!"], "order": NO_CARD, "as number": MASKED}
    ]


def test_the_filter_refuses_and_routes_where_the_owner_wants_that(client: Client) -> None:
    client.create_queue("refused", {"card_numbers": "refuse"})
    client.create_queue("routed", {"card_numbers": "route:vault"})

    with pytest.raises(BadRequest, match="number of a payment card"):
        client.post("refused", CARD)
    client.post("refused", NO_CARD)
    client.post("routed", CARD)

    assert [bodies(client, name) for name in ("refused", "routed", "vault")] == [
        [NO_CARD],
        [],
        [CARD],
    ]


async def test_the_sink_appends_messages_to_a_stream(client: Client, redis: RedisServer) -> None:
    with pytest.raises(BadRequest, match="subscriber must be stream: and a name"):
        client.subscribe("orders", "stream:a b")
    client.subscribe("orders", "stream:Orders")

    client.post("orders", {"n": 1}, {"n": 2})

    await until(lambda: redis.client.xlen("demo Orders") == 2)
    found: Any = redis.client.xrange("demo Orders")
    entries = [entry for _, entry in found]
    assert [(each["queue"], json.loads(each["body"])) for each in entries] == [
        ("orders", {"n": 1}),
        ("orders", {"n": 2}),
    ]


async def test_the_sink_s_option_is_checked_and_obeyed(client: Client, redis: RedisServer) -> None:
    with pytest.raises(BadRequest, match="stream_entries must be a number of entries from 1 to"):
        client.subscribe("short", "stream:Short", options={"stream_entries": 0})
    client.subscribe("short", "stream:Short", options={"stream_entries": 2})

    client.post("short", *range(5))

    def last_ones() -> list[bytes]:
        found: Any = redis.client.xrange("demo Short")
        return [entry["body"] for _, entry in found]

    await until(lambda: [int(each) for each in last_ones()] == [3, 4])


def test_a_running_service_documents_and_counts_the_kind(service: Service) -> None:
    document = requests.get(f"{service.url}/openapi.json", timeout=10).json()
    options = document["components"]["schemas"]["SubscriptionOptions"]["properties"]
    assert options["stream_entries"]["description"] == (
        "Read by stream; must be a number of entries from 1 to 100000."
    )
    assert "_filter_policy" in options
    metrics = requests.get(f"{service.url}/metrics", timeout=10).text
    assert 'zaqar_notify_tries_total{scheme="stream",verdict="delivered"}' in metrics


async def test_the_driver_keeps_a_backup_from_which_a_lost_store_is_restored(
    python: Path, tmp_path: Path
) -> None:
    database, backup = tmp_path / "zaqar.db", tmp_path / "backups" / "zaqar.db"
    backup.parent.mkdir()
    uri = f"sqlite-backed://{database}?backup={backup}&every=1"
    service = Service(tmp_path / "data", environ={"ZAQAR_STORE_URI": uri}, python=python)
    service.start()
    with Client(service.url, project="demo") as client:
        client.post("orders", "kept")
        for _ in range(2):  # The first one may have begun before the post.
            await until(newer_than(backup, stamp(backup)))
        service.kill()
        restore(database, backup)

        service.start()
        try:
            assert bodies(client, "orders") == ["kept"]
        finally:
            assert service.stop() == 0


def newer_than(file: Path, instant: float) -> Callable[[], bool]:
    return lambda: stamp(file) > instant


def stamp(file: Path) -> float:
    return file.stat().st_mtime if file.exists() else 0.0


def restore(database: Path, backup: Path) -> None:
    """Lose the database with all files beside it, and put the backup in its place."""
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    backup.rename(database)


def test_a_filter_that_is_not_installed_stops_the_start(python: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        command("up", "--port", "0", "--data", str(tmp_path / "data"), python=python),
        env=outside_environ() | {"ZAQAR_FILTERS": "cards,cuts"},
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith(
        "ZAQAR_FILTERS names 'cuts', and there is no such filter: installed are cards"
    )


def test_the_doctor_looks_at_all_three(python: Path, redis: RedisServer, tmp_path: Path) -> None:
    environ = {
        "ZAQAR_FILTERS": "cards",
        "ZAQAR_SUBSCRIBER_TYPES": "stream",
        "STREAMS_REDIS_URI": redis.uri,
        "ZAQAR_STORE_URI": f"sqlite-backed://{tmp_path}/zaqar.db?backup={tmp_path}/backup.db",
    }

    done = subprocess.run(
        command("doctor", python=python),
        env=outside_environ() | environ,
        capture_output=True,
        text=True,
    )

    assert "filters:      Posts pass cards" in done.stdout
    assert "streams:      STREAMS_REDIS_URI answers" in done.stdout
    assert f"backup:       {tmp_path}/backup.db is not there yet" in done.stdout
