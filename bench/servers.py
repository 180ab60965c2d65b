"""The servers under test: each is started here, on free loopback ports, and stopped at the end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS, PEER, FLOOR = "zaqar-notify", "Zaqar", "bare route"
START_SECONDS = 30
STOP_SECONDS = 15


@dataclass(frozen=True)
class Server:
    """`pids` are the roots of all process trees whose CPU counts, stores included."""

    label: str
    url: str
    pids: list[int]
    facts: str = ""


@contextlib.contextmanager
def zaqar_notify(
    directory: Path, *, label: str = OURS, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`zaqar-notify up` with its default settings, on the data that `directory` holds."""
    directory.mkdir(parents=True, exist_ok=True)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("ZAQAR_")}
    command = ["-m", "zaqar_notify", "up", "--data", str(directory)]
    with _python(
        label, command, directory, path="/v2/ping", environ=environ | dict(settings or {})
    ) as server:
        yield server


@contextlib.contextmanager
def bare_route(directory: Path) -> Iterator[Server]:
    """What HTTP alone costs in Python: see `echo_app.py`."""
    command = ["-m", "uvicorn", "echo_app:app", "--app-dir", str(HERE), "--no-access-log"]
    with _python(FLOOR, command, directory, path="/", environ=os.environ) as server:
        yield server


@contextlib.contextmanager
def zaqar(directory: Path, venv: Path) -> Iterator[Server]:
    """A released Zaqar on Redis; `venv` is made and filled at the first start."""
    port, redis_port = _free_ports(2)
    environ = os.environ | {
        "RUN_DIR": str(directory),
        "VENV_DIR": str(venv),
        "PYTHON": sys.executable,
        "PORT": str(port),
        "REDIS_PORT": str(redis_port),
    }
    try:
        _run_to_its_end([HERE / "zaqar/start.sh"], environ)
        yield Server(
            PEER, f"http://127.0.0.1:{port}", _recorded(directory), _zaqar_facts(directory, venv)
        )
    finally:
        if (directory / "started").exists():
            subprocess.run([HERE / "zaqar/stop.sh"], env=environ, check=True)


@contextlib.contextmanager
def _python(
    label: str, command: list[str], directory: Path, *, path: str, environ: Mapping[str, str]
) -> Iterator[Server]:
    (port,) = _free_ports(1)
    log = directory / f"{label.replace(' ', '-')}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port)],
            env=dict(environ),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we stop it when its turn has come
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for_an_answer(url + path, process, log)
        yield Server(label, url, [process.pid])
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_an_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{' '.join(map(str, process.args))} did not come up:\n{log.read_text()}")


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


def _recorded(directory: Path) -> list[int]:
    lines = (directory / "started").read_text().splitlines()
    return [int(line.split()[1]) for line in lines]


def _zaqar_facts(directory: Path, venv: Path) -> str:
    lines = (directory / "settings").read_text().splitlines()
    settings = {name: value.strip('"') for name, value in (line.split("=", 1) for line in lines)}
    web = "uwsgi" if settings["SERVER"] == "uwsgi" else "gunicorn"
    code = (
        "import importlib.metadata as m, redis\n"
        f"store = redis.Redis(port={settings['REDIS_PORT']}).info()['redis_version']\n"
        f"print('zaqar', m.version('zaqar'), '· {web}', m.version('{web}'), '· Redis', store)"
    )
    versions = subprocess.run(
        [venv / "bin/python", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    return (
        f"{versions}. {web} with {settings['WORKERS']} processes; Redis without persistence; "
        f"{settings['NOTIFIER_WORKERS']} notifier workers in each process; no authentication."
    )
