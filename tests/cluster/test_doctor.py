"""`zaqar-notify doctor` on a host of a cluster, with real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pytest

from tests.cluster.cluster import Cluster
from tests.mongod import ReplicaSet, require_mongod
from tests.redis_server import RedisServer, require_redis

DATABASE = "zaqar_notify"
HOUR_SECONDS = 3600.0
SECRETS = {"ZAQAR_SIGNED_URL_SECRETS": "secret"}
"""In order there are two; the other one every cluster of the tests has."""


@contextmanager
def replica_set(members: int) -> Iterator[str]:
    """The URI of a database on a set of so many members."""
    require_mongod()
    started = ReplicaSet(members)
    try:
        started.start()
        yield started.uri(DATABASE)
    finally:
        started.stop()


@pytest.fixture(scope="module")
def store_uri() -> Iterator[str]:
    with replica_set(3) as uri:
        yield uri


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def cluster(
    redis: RedisServer, store_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """One in order, with a process that runs."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), redis, store_uri, environ=SECRETS)
    cluster.api()
    yield cluster
    cluster.end_processes()


def said_of(check: str, cluster: Cluster, *, ahead_seconds: float = 0.0) -> tuple[int, list[str]]:
    """The exit code, and the lines about that, without its name."""
    ended = cluster.run("doctor", ahead_seconds=ahead_seconds)
    assert ended.stderr == ""
    found = re.findall(rf"^(\w+) +{check}: +(.*)$", ended.stdout, re.MULTILINE)
    return ended.returncode, [f"{level}: {sentence}" for level, sentence in found]


@pytest.mark.parametrize(
    ("check", "sentences"),
    [
        ("store", [r"mongodb://\S+ answers in \d+\.\d ms", r"MongoDB \d\S+, replica set rs0"]),
        ("broker", [r"redis://\S+ answers, (Redis|Valkey) \d\S+"]),
        ("clock", [r"This host's clock is 0\.\d\d s (ahead of|behind) the store's"]),
        ("secrets", [r"Webhooks and pre-signed URLs are signed"]),
    ],
)
def test_a_cluster_in_order_is_good_news(
    cluster: Cluster, check: str, sentences: list[str]
) -> None:
    exit_code, lines = said_of(check, cluster)

    assert exit_code == 0
    assert len(lines) == len(sentences), lines
    for line, sentence in zip(lines, sentences, strict=True):
        assert re.fullmatch(f"ok: {sentence}", line)


@pytest.mark.parametrize(
    ("ahead_seconds", "direction"), [(HOUR_SECONDS, "ahead of"), (-HOUR_SECONDS, "behind")]
)
def test_a_host_whose_clock_is_off_is_told_to_keep_time(
    cluster: Cluster, ahead_seconds: float, direction: str
) -> None:
    exit_code, [line] = said_of("clock", cluster, ahead_seconds=ahead_seconds)

    assert exit_code == 0
    off = re.match(rf"warning: This host's clock is (\S+) s {direction} the store's\. (.*)", line)
    assert off, line
    assert float(off[1]) == pytest.approx(HOUR_SECONDS, abs=1)
    assert off[2].startswith("Let all hosts keep time by NTP;")


def test_an_index_that_is_lacking_is_a_problem_that_a_start_solves(
    cluster: Cluster, store_uri: str
) -> None:
    with pymongo.MongoClient[dict[str, Any]](store_uri) as client:
        client[DATABASE].messages.drop_index("queue_due")

    exit_code, lines = said_of("store", cluster)
    assert exit_code == 1
    assert lines[-1].startswith(
        "problem: The collection messages lacks indexes: queue_due. Restart a process"
    )

    cluster.api()
    exit_code, lines = said_of("store", cluster)
    assert exit_code == 0
    assert all(line.startswith("ok: ") for line in lines)


@pytest.mark.parametrize("members", [1, 2])
def test_a_set_that_does_not_outlive_a_member_is_a_warning(
    redis: RedisServer, tmp_path_factory: pytest.TempPathFactory, members: int
) -> None:
    with replica_set(members) as uri:
        cluster = Cluster(tmp_path_factory.mktemp("cluster"), redis, uri, environ=SECRETS)

        exit_code, lines = said_of("store", cluster)

    [warning] = [line for line in lines if not line.startswith("ok: ")]
    assert exit_code == 0
    said = {1: "members 1 has data:", 2: "members 2 have data:"}
    assert warning.startswith(f"warning: Of the replica set's {said[members]}")
    assert "Add members until there are three" in warning
