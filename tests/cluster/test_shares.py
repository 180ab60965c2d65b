"""Pre-signed URLs of a cluster: revoked in one process, refused in every process."""

from __future__ import annotations

import time
from collections.abc import Mapping

import requests

from tests.cluster.cluster import Cluster
from tests.cluster.processes import Api
from zaqar_notify.client import Client

CONNECTIONS = 16
"""So many reach each of two processes."""
PATIENCE_SECONDS = 30
"""A busy machine may be slow; tests/unit/test_revocations.py holds the service to its three seconds."""


def admitted(api: Api, signed: Mapping[str, str]) -> int:
    """How many of some new connections may read the queue with these headers."""
    headers = {**signed, "Client-ID": "0" * 32}
    url = f"{api.url}/v2/queues/q/messages"
    statuses = [
        requests.get(url, headers=headers, timeout=10).status_code for _ in range(CONNECTIONS)
    ]
    assert {*statuses} <= {200, 404}
    return statuses.count(200)


def test_every_process_refuses_what_was_revoked_and_takes_what_was_made_after(
    cluster: Cluster,
) -> None:
    api = cluster.api(processes=2, environ={"ZAQAR_SIGNED_URL_SECRETS": "secret"})
    api.wait_until(lambda: len(api.children()) == 2)
    with Client(api.url) as client:
        before = client.share("q").headers
        assert admitted(api, before) == CONNECTIONS

        client.revoke_shares("q")

        assert admitted(api, client.share("q").headers) == CONNECTIONS
    deadline = time.monotonic() + PATIENCE_SECONDS
    while admitted(api, before):
        assert time.monotonic() < deadline
