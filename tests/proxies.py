"""Real proxies in front of the service: nginx, HAProxy, Apache and Caddy, each with a configuration of its own."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.programs import program as path_of

START_SECONDS = 20
NGINX = """
daemon off; pid {directory}/pid; error_log stderr crit; {user}
events {{ worker_connections 512; }}
http {{
access_log off;
client_body_temp_path {directory}/1; proxy_temp_path {directory}/2; fastcgi_temp_path {directory}/3;
uwsgi_temp_path {directory}/4; scgi_temp_path {directory}/5;
{configuration}
}}
"""

HAPROXY = """
global
    maxconn 500
{configuration}
"""

APACHE = """
ServerRoot {directory}
ServerName localhost
PidFile {directory}/pid
ErrorLog {directory}/errors
DefaultRuntimeDir {directory}
{user}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
ServerLimit 2
StartServers 1
MinSpareThreads 1
MaxSpareThreads 50
ThreadsPerChild 25
MaxRequestWorkers 50
{configuration}
"""

CADDY = """
{{
    admin off
    auto_https off
}}
{configuration}
"""


@contextmanager
def proxy(program: str, configuration: str, port: int, directory: Path) -> Iterator[None]:
    """Run a proxy that listens on `port` with a part of a configuration, as its documentation shows it.

    nginx: the lines of `http`. HAProxy: the sections. Apache: a server's lines. Caddy: sites.
    """
    path = path_of(program)
    directory.mkdir()
    file = directory / "configuration"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            _COMMANDS[program](path, file, directory, configuration),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HOME": str(directory), "XDG_DATA_HOME": str(directory)},
        )
    try:
        _wait_for(port, process, directory / "log")
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def _nginx(path: str, file: Path, directory: Path, configuration: str) -> list[str]:
    user = "user root;" if getpass.getuser() == "root" else ""
    file.write_text(NGINX.format(directory=directory, configuration=configuration, user=user))
    return [path, "-p", str(directory), "-c", str(file), "-e", "stderr"]


def _haproxy(path: str, file: Path, directory: Path, configuration: str) -> list[str]:
    file.write_text(HAPROXY.format(configuration=configuration))
    return [path, "-db", "-f", str(file)]


def _apache(path: str, file: Path, directory: Path, configuration: str) -> list[str]:
    user = ""
    if getpass.getuser() == "root":
        directory.chmod(0o755)
        user = "User www-data\nGroup www-data"
    file.write_text(APACHE.format(directory=directory, configuration=configuration, user=user))
    return [path, "-d", str(directory), "-f", str(file), "-DFOREGROUND"]


def _caddy(path: str, file: Path, directory: Path, configuration: str) -> list[str]:
    file.write_text(CADDY.format(configuration=configuration))
    return [path, "run", "--config", str(file), "--adapter", "caddyfile"]


_COMMANDS = {"nginx": _nginx, "haproxy": _haproxy, "apache2": _apache, "caddy": _caddy}


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
