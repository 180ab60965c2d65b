"""A real Keystone for tests, on loopback: SQLite, fernet tokens, and gunicorn, all from the test group of packages.

The processes of a run start one each when its first test asks for it. Where Keystone is not installed, tests that
need one are skipped, which the end of the run says; with `ZAQAR_TEST_REQUIRE_ALL=1` they fail.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import requests

from tests.programs import do_without
from tests.service import free_port, outside_environ
from zaqar_notify.clock import new_id

START_SECONDS = 60
ABSENT = "no Keystone. Install the packages keystone and gunicorn"
DOMAIN = "default"
REGION = "RegionOne"
ADMIN = "admin"
PASSWORD = "secret"

# The cache holds what one process has seen, so there is one process.
_CONFIGURATION = """
[DEFAULT]
log_file = {directory}/keystone.log
[database]
connection = sqlite:///{directory}/keystone.db
sqlite_synchronous = false
[fernet_tokens]
key_repository = {directory}/fernet
[credential]
key_repository = {directory}/credential
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
password_hash_rounds = 4
"""

_SERVER = """
wsgi_app = "keystone.wsgi.api:application"
bind = "127.0.0.1:{port}"
threads = 8
control_socket_disable = True
"""

# Two calls of one program: each would need seconds to load it.
_PREPARATION = """
import sys
import keystone.conf
from keystone.cmd import manage
for command in (["db_sync"], ["bootstrap", *sys.argv[1:]]):
    sys.argv = ["keystone-manage", "--config-file", "keystone.conf", *command]
    keystone.conf.CONF.reset()
    manage.main()
"""


class User(NamedTuple):
    """A user of the domain `default`; `project` is the id of the project that its roles are on."""

    id: str
    name: str
    project: str


class Keystone:
    """One server. Started again it has its former data, on its port.

    `admin` is its administrator: of the project `admin` of the domain `default`, password `secret`.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v3"
        self._directory = Path(tempfile.mkdtemp(prefix="zaqar-keystone-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        self._prepare()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "gunicorn"],
                cwd=self._directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (self._directory / "server.log").read_text()[-2000:]
                raise AssertionError(f"Keystone did not start:\n{text}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it and its workers as a crash would, with SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        self._session.close()

    def pause(self) -> None:
        """Let it hang: it takes connections, and answers nothing; `go_on` ends that."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    # Projects, users and roles, as clouds have them.

    def name_of_project(self, project: str) -> str:
        return str(self.ask("GET", f"/projects/{project}")["project"]["name"])

    def project(self) -> str:
        """A new project; its id."""
        body = {"project": {"name": f"project-{new_id()}", "domain_id": DOMAIN}}
        return str(self.ask("POST", "/projects", body)["project"]["id"])

    def user(self, *roles: str, project: str | None = None) -> User:
        """A new user with these roles on the project, or on a new one; the password is `secret`."""
        project = project or self.project()
        body = {"name": f"user-{new_id()}", "password": PASSWORD, "domain_id": DOMAIN}
        made = self.ask("POST", "/users", {"user": body})["user"]
        user = User(made["id"], made["name"], project)
        for role in roles:
            self.grant(user, role)
        return user

    def grant(self, user: User, role: str) -> None:
        """Give the user the role on its project; the role is made when absent."""
        self.ask("PUT", f"/projects/{user.project}/users/{user.id}/roles/{self._role(role)}")

    def withdraw(self, user: User, role: str) -> None:
        self.ask("DELETE", f"/projects/{user.project}/users/{user.id}/roles/{self._role(role)}")

    def enable(self, project: str, is_enabled: bool) -> None:
        self.ask("PATCH", f"/projects/{project}", {"project": {"enabled": is_enabled}})

    def enable_user(self, user: User, is_enabled: bool) -> None:
        self.ask("PATCH", f"/users/{user.id}", {"user": {"enabled": is_enabled}})

    def endpoint(self, kind: str, name: str, url: str) -> str:
        """Put a service with one public address into the catalogue; the service's id."""
        service = self.ask("POST", "/services", {"service": {"type": kind, "name": name}})
        service_id = str(service["service"]["id"])
        endpoint = {
            "service_id": service_id,
            "interface": "public",
            "region_id": REGION,
            "url": url,
        }
        self.ask("POST", "/endpoints", {"endpoint": endpoint})
        return service_id

    def forget_service(self, service_id: str) -> None:
        self.ask("DELETE", f"/services/{service_id}")

    # Tokens.

    def token(self, user: User, *, is_scoped: bool = True) -> str:
        """A new token of the user, for its project unless it is to have no scope."""
        scope = {"project": {"id": user.project}} if is_scoped else None
        return self._issue(_by_password({"id": user.id}), scope)

    def trust_token(self, trustee: User, trust: str) -> str:
        """A new token of the trustee, in the trustor's name."""
        return self._issue(_by_password({"id": trustee.id}), {"OS-TRUST:trust": {"id": trust}})

    def short_token(self, user: User, *, lifetime_seconds: int) -> str:
        """A token of the user that expires so soon: one of an application credential expires with it."""
        expires_at = datetime.now(UTC) + timedelta(seconds=lifetime_seconds)
        credential, secret = self.application_credential(user, expires_at=expires_at)
        return self.credential_token(credential, secret)

    def application_credential(
        self,
        user: User,
        *,
        expires_at: datetime | None = None,
        access_rules: Sequence[Mapping[str, str]] = (),
    ) -> tuple[str, str]:
        """A new one of the user, with all its roles: its id and its secret."""
        wanted: dict[str, object] = {"name": new_id()}
        if expires_at is not None:
            wanted["expires_at"] = f"{expires_at:%Y-%m-%dT%H:%M:%S.%f}"
        if access_rules:
            wanted["access_rules"] = list(access_rules)
        made = self.ask(
            "POST",
            f"/users/{user.id}/application_credentials",
            {"application_credential": wanted},
            token=self.token(user),
        )["application_credential"]
        return made["id"], made["secret"]

    def credential_token(self, credential: str, secret: str) -> str:
        """A new token of an application credential."""
        given = {"id": credential, "secret": secret}
        return self._issue(
            {"methods": ["application_credential"], "application_credential": given}, None
        )

    def trust(
        self, trustor: User, trustee: User, *roles: str, expires_at: datetime | None = None
    ) -> str:
        """A new trust for the trustor's project; its id."""
        wanted: dict[str, object] = {
            "trustor_user_id": trustor.id,
            "trustee_user_id": trustee.id,
            "project_id": trustor.project,
            "impersonation": True,
            "roles": [{"name": role} for role in roles],
        }
        if expires_at is not None:
            wanted["expires_at"] = f"{expires_at:%Y-%m-%dT%H:%M:%S.%fZ}"
        answer = self.ask("POST", "/OS-TRUST/trusts", {"trust": wanted}, token=self.token(trustor))
        return str(answer["trust"]["id"])

    def trusts(self, trustor: User) -> list[dict[str, Any]]:
        """The trusts that the user has given."""
        path = f"/OS-TRUST/trusts?trustor_user_id={trustor.id}"
        return list(self.ask("GET", path, token=self.token(trustor))["trusts"])

    def validated(self, token: str) -> dict[str, Any] | None:
        """The token as Keystone knows it; None: it is not, or no longer, valid."""
        answer = self._send(
            "GET", "/auth/tokens", None, self.admin_token, {"X-Subject-Token": token}
        )
        return dict(answer.json()["token"]) if answer.ok else None

    def revoke(self, token: str) -> None:
        answer = self._send(
            "DELETE", "/auth/tokens", None, self.admin_token, {"X-Subject-Token": token}
        )
        assert answer.ok, answer.text

    def revoke_tokens_of(self, user: User) -> None:
        """Revoke all that the user has; it returns when new ones are valid."""
        self.enable_user(user, False)
        self.enable_user(user, True)
        # Keystone counts in seconds: a token of the same second would be revoked, too.
        while self.validated(self.token(user)) is None:
            time.sleep(0.05)

    @functools.cached_property
    def admin_token(self) -> str:
        scope = {"project": {"name": ADMIN, "domain": {"id": DOMAIN}}}
        return self._issue(_by_password({"name": ADMIN, "domain": {"id": DOMAIN}}), scope)

    def ask(
        self, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> dict[str, Any]:
        """The answer to a request that succeeds; with the administrator's token if none is given."""
        answer = self._send(method, path, body, token or self.admin_token, {})
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return dict(answer.json()) if answer.content else {}

    def _send(
        self, method: str, path: str, body: object, token: str, headers: Mapping[str, str]
    ) -> requests.Response:
        return self._session.request(
            method,
            f"{self.url}{path}",
            json=body,
            headers={"X-Auth-Token": token, **headers},
            timeout=START_SECONDS,
        )

    def _issue(self, identity: Mapping[str, object], scope: object) -> str:
        wanted: dict[str, object] = {"identity": identity}
        if scope is not None:
            wanted["scope"] = scope
        elif "password" in identity:
            wanted["scope"] = "unscoped"
        answer = self._session.post(
            f"{self.url}/auth/tokens", json={"auth": wanted}, timeout=START_SECONDS
        )
        assert answer.ok, answer.text
        return answer.headers["X-Subject-Token"]

    @functools.cache  # noqa: B019 - it lives as long as the process
    def _role(self, name: str) -> str:
        found = self.ask("GET", f"/roles?name={name}")["roles"]
        made = found or [self.ask("POST", "/roles", {"role": {"name": name}})["role"]]
        return str(made[0]["id"])

    def _prepare(self) -> None:
        from cryptography.fernet import Fernet

        for repository in ("fernet", "credential"):
            (self._directory / repository).mkdir(mode=0o700)
            for number in range(2):
                key = self._directory / repository / str(number)
                key.write_bytes(Fernet.generate_key())
                key.chmod(0o600)
        configuration = _CONFIGURATION.format(directory=self._directory)
        (self._directory / "keystone.conf").write_text(configuration)
        (self._directory / "gunicorn.conf.py").write_text(_SERVER.format(port=self.port))
        options = {"password": PASSWORD, "public-url": self.url, "region-id": REGION}
        arguments = [f"--bootstrap-{name}={value}" for name, value in options.items()]
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PREPARATION, *arguments],
            cwd=self._directory,
            env=self._environ(),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        assert ended.returncode == 0, ended.stderr

    def _environ(self) -> dict[str, str]:
        configuration = str(self._directory / "keystone.conf")
        return outside_environ() | {"OS_KEYSTONE_CONFIG_FILES": configuration}

    def _answers(self) -> bool:
        try:
            return self._session.get(self.url, timeout=5).ok
        except requests.RequestException:
            return False


def _by_password(user: Mapping[str, object]) -> dict[str, object]:
    return {"methods": ["password"], "password": {"user": {**user, "password": PASSWORD}}}


def keystone() -> Keystone:
    """The Keystone that the tests of this process share. Users and projects of a test are its own."""
    if not all(map(importlib.util.find_spec, ("keystone", "gunicorn"))):
        do_without(ABSENT)
    return _shared()


@functools.cache
def _shared() -> Keystone:
    shared = Keystone()
    atexit.register(shared.remove)
    shared.start()
    return shared
