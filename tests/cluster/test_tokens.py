"""Tokens of a cluster: made and revoked at the store, and believed by every process."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import Api
from zaqar_notify.client import Client, Unauthorized

CONNECTIONS = 16
"""So many reach each of two processes."""
REVOKED_SECONDS = 5


@pytest.fixture
def api(cluster: Cluster) -> Api:
    api = cluster.api(processes=2, environ={"ZAQAR_AUTH": "token"})
    api.wait_until(lambda: len(api.children()) == 2)
    return api


def believed(api: Api, token: str) -> int:
    """How many of some new connections are believed."""
    count = 0
    for _ in range(CONNECTIONS):
        with Client(api.url, token=token) as client:
            try:
                client.stats("q")
            except Unauthorized:
                continue
        count += 1
    return count


def test_a_token_is_believed_by_every_process_until_it_is_revoked(
    cluster: Cluster, api: Api
) -> None:
    made = json.loads(cluster.run("token", "create", "--project", "p1", "--json").stdout)
    assert believed(api, made["token"]) == CONNECTIONS

    assert cluster.run("token", "revoke", made["id"]).returncode == 0

    deadline = time.monotonic() + REVOKED_SECONDS
    while time.monotonic() < deadline and believed(api, made["token"]):
        pass
    assert believed(api, made["token"]) == 0
    assert cluster.run("token", "list", "--project", "p1", "--json").stdout.strip() == "[]"
