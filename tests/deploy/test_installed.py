"""The wheel in a new environment with only its requirements, far from the source tree: all of it runs."""

from __future__ import annotations

import json
import re
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_group

import zaqar_notify
from tests.cluster.processes import Process
from tests.deploy import image
from tests.deploy.terminals import Terminals, things_to_try
from tests.deploy.webhooks import Webhooks, receiving
from tests.mongod import mongo_uri
from tests.redis_server import RedisServer, require_redis
from tests.service import free_port, outside_environ
from zaqar_notify import __version__
from zaqar_notify.cli import app
from zaqar_notify.client import Client

ARRIVES_SECONDS = 20
COMMAND_SECONDS = 60

TO_A_SERVICE = [
    ["ping"],
    ["post", "orders", '"hello"'],
    ["queue", "list"],
    ["queue", "stats", "orders"],
    ["tail", "orders", "--from-start", "--count", "1"],
    ["claim", "create", "orders", "--limit", "1", "--delete"],
    ["subscribe", "orders", "queue:audit"],
    ["subscription", "list", "orders"],
    ["subscription", "delete", "orders", "0" * 24],
    ["share", "create", "orders"],
    ["share", "revoke", "orders"],
    ["delivery", "list"],
    ["replay", "list"],
    ["suppression", "list"],
    ["queue", "create", "made"],
    ["queue", "show", "made"],
    ["queue", "set", "made", "colour=red"],
    ["queue", "redrive", "made"],
    ["queue", "purge", "made", "--yes"],
    ["queue", "delete", "made", "--yes"],
]
"""Commands that call one, in this order."""
TO_A_DIRECTORY = [
    *(["poison", verb, "--data", "data"] for verb in ("list", "retry", "drop")),
    ["quota", "set", "demo", "queues=5", "--data", "data"],
    ["quota", "show", "demo", "--data", "data"],
    ["token", "create", "--project", "demo", "--data", "data"],
]
TO_A_CLUSTER = [["doctor"], ["restored"]]
OTHERS = [
    *(["up"], ["api"], ["worker"], ["receive"], ["config", "--example"], ["policy", "list"]),
    *(["rekey"], ["token", "list"], ["token", "revoke"], ["import"], ["rebalance"]),
    *(["queue", "move"], ["queue", "moves"], ["why"], ["undelivered"]),
    *(["message", verb] for verb in ("get", "delete")),
    *(["claim", verb] for verb in ("renew", "release")),
    *(["delivery", verb] for verb in ("show", "tail", "replay")),
    *(["replay", verb] for verb in ("show", "cancel")),
    *(["suppression", "delete"],),
    *(["subscription", verb] for verb in ("show", "update", "pause", "resume", "test", "secret")),
    *([noun, verb] for noun in ("pool", "flavor") for verb in ("list", "show", "set", "delete")),
]
"""Run in tests of their own."""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the scripts that the image has."""
    return image.build(tmp_path_factory.mktemp("image"))


class Installed:
    """Its commands, run from an empty directory and told `environ` alone."""

    def __init__(self, scripts: Path, directory: Path, environ: Mapping[str, str]) -> None:
        self.directory = directory
        self.environ = dict(environ)
        self.program = scripts / "zaqar-notify"

    def run(self, *arguments: str) -> str:
        """A command to its good end; its output."""
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.directory,
            env=_outside() | self.environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, *arguments: str, until_it_says: str) -> Iterator[Process]:
        """A command that runs on, from the moment in which it says so."""
        process = Process(
            [str(self.program), *arguments],
            environ=self.environ | {"PYTHONPATH": ""},
            log=self.directory / f"{arguments[0]}.log",
            cwd=self.directory,
        )
        process.launch()
        try:
            process.wait_until(lambda: until_it_says in process.printed())
            yield process
        finally:
            process.ask_to_stop()
            process.end()
        assert "Traceback" not in process.printed(), process.printed()


@pytest.fixture
def alone(scripts: Path, tmp_path: Path) -> Installed:
    return Installed(scripts, tmp_path, {})


@pytest.fixture
def in_cluster(scripts: Path, tmp_path: Path) -> Iterator[Installed]:
    require_redis()
    redis = RedisServer()
    environ = {
        "ZAQAR_STORE_URI": mongo_uri(),
        "ZAQAR_BROKER_URI": redis.uri,
        "ZAQAR_DELIVERY_ALLOW": "127.0.0.0/8",
        "ZAQAR_SIGNED_URL_SECRETS": "5" * 64,
        "ZAQAR_WEBHOOK_SECRET": "6" * 64,
    }
    redis.start()
    try:
        yield Installed(scripts, tmp_path, environ)
    finally:
        redis.kill()


@pytest.fixture
def webhooks() -> Iterator[Webhooks]:
    with receiving() as webhooks:
        yield webhooks


def _outside() -> dict[str, str]:
    """This process's environment without variables that could lead to the source tree."""
    return outside_environ() | {"PYTHONPATH": ""}


def test_it_is_the_wheel_that_runs(scripts: Path, alone: Installed) -> None:
    code = "import api, sinks, workers, zaqar_notify as it; print(it.__file__)"

    where = subprocess.check_output(
        [scripts / "python", "-c", code], cwd=alone.directory, env=_outside(), text=True
    )

    assert Path(where).is_relative_to(scripts.parent)
    assert alone.run("--version") == f"zaqar-notify {__version__}\n"


def test_files_that_are_no_python_come_along(scripts: Path) -> None:
    """Statements, scripts and the like, which the code reads when it needs them."""
    source = Path(zaqar_notify.__file__).parent
    wanted = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.suffix in {".lua", ".sql"}
    }
    code = "import pathlib, zaqar_notify as it; print(pathlib.Path(it.__file__).parent)"
    installed = Path(
        subprocess.check_output([scripts / "python", "-c", code], env=_outside(), text=True).strip()
    )

    assert wanted
    assert {name for name in wanted if not (installed / name).exists()} == set()


def test_up_delivers_and_every_command_of_a_client_works(
    alone: Installed, webhooks: Webhooks
) -> None:
    port = free_port()
    alone.environ["ZAQAR_URL"] = url = f"http://127.0.0.1:{port}"

    with alone.running("up", "--port", str(port), until_it_says=f"serves {url}"):
        alone.run("subscribe", "orders", webhooks.url)
        printed = {words[0]: alone.run(*words) for words in TO_A_SERVICE}
        alone.run("doctor")

        assert webhooks.take_until({"hello"}, within_seconds=ARRIVES_SECONDS) == {"hello"}
    assert all('"hello"' in printed[command] for command in ("tail", "claim"))
    for words in TO_A_DIRECTORY:
        alone.run(*words)
    [token] = json.loads(alone.run("token", "list", "--json", "--data", "data"))
    alone.run("token", "revoke", token["id"], "--data", "data")
    alone.environ["ZAQAR_ENCRYPTION_KEYS"] = f"k1:{b64encode(bytes(32)).decode()}"
    alone.run("rekey", "--data", "data")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_what_up_says_to_try_works_as_it_is_pasted(
    alone: Installed, shell: str, tmp_path: Path
) -> None:
    up = alone.running("up", "--port", "0", until_it_says="Stop with Ctrl-C")

    with up as process, Terminals(shell, tmp_path) as terminals:
        post, browse, follow = things_to_try(process.printed())

        assert " 201 " in terminals.paste(post)
        assert "hi" in terminals.paste(browse)
        terminals.paste_and_leave(follow, until_it_says='"hi"')


def test_the_command_that_receives_webhooks_works(alone: Installed) -> None:
    ports = up, receiver = free_port(), free_port()
    alone.environ["ZAQAR_URL"] = f"http://127.0.0.1:{up}"
    waits_at = f"http://127.0.0.1:{receiver}/"

    with ExitStack() as running:
        for command, port in zip(("up", "receive"), ports, strict=True):
            process = running.enter_context(
                alone.running(command, "--port", str(port), until_it_says=f"127.0.0.1:{port}")
            )
        alone.run("subscribe", "orders", waits_at)
        alone.run("post", "orders", '{"order": 2}')

        process.wait_until(lambda: '"order": 2' in process.printed())


@pytest.mark.parametrize(("processes", "pool"), [("1", "threads"), ("2", "prefork")])
def test_an_api_and_a_worker_deliver(
    in_cluster: Installed, webhooks: Webhooks, processes: str, pool: str, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    served = ("api", "--port", str(port), "--processes", processes)
    api = in_cluster.running(*served, until_it_says=f"serves {url}")
    # Celery's log line when it listens for rings.
    worker = in_cluster.running("worker", "--pool", pool, until_it_says=" ready.")

    terminals = Terminals("bash", tmp_path, environ=in_cluster.environ)

    with api as api_process, worker as worker_process, Client(url) as client, terminals:
        client.subscribe("orders", webhooks.url)
        client.post("orders", "hello")

        assert webhooks.take_until({"hello"}, within_seconds=ARRIVES_SECONDS) == {"hello"}
        for words in TO_A_CLUSTER:
            in_cluster.run(*words)
        for process in (api_process, worker_process):
            [command] = re.findall(r" with: (.*)$", process.printed(), re.M)
            terminals.paste(command)


def test_settings_are_told(alone: Installed) -> None:
    assert alone.run("config", "--example") == (image.ROOT / "settings.example.env").read_text()


def test_a_policy_file_is_read_and_its_rules_are_listed(alone: Installed) -> None:
    (alone.directory / "policy.yaml").write_text('"queues:get": "role:member"')
    alone.environ["ZAQAR_POLICY_FILE"] = "policy.yaml"

    assert '"queues:get": ""' in alone.run("policy", "list")
    assert "policy.yaml can be used" in alone.run("doctor", "--data", "data")


def commands(group: Any, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of each command of `group` and of the groups in it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield (*before, name)


def test_no_command_is_left_out_here() -> None:
    run = [*TO_A_SERVICE, *TO_A_DIRECTORY, *TO_A_CLUSTER, *OTHERS]

    for words in commands(get_group(app)):
        assert any(tuple(line[: len(words)]) == words for line in run), words
