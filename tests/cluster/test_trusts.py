"""In a cluster the API makes the trusts of subscriptions, and the workers use them."""

from __future__ import annotations

from pathlib import Path

import requests

from tests.cloud import Cloud
from tests.cluster.cluster import empty_cluster
from tests.deploy.webhooks import receiving
from zaqar_notify.clock import new_id


def test_a_worker_delivers_with_a_token_of_the_user_who_subscribed(tmp_path: Path) -> None:
    cloud = Cloud()
    user = cloud.keystone.user("member")
    headers = {"X-Auth-Token": cloud.keystone.token(user), "Client-ID": new_id()}
    with receiving() as hook:
        environ = cloud.environ() | {"ZAQAR_TRUST_TARGETS": hook.url}
        with empty_cluster(tmp_path, environ=environ) as cluster:
            queue = f"{cluster.api().url}/v2/queues/q"
            cluster.worker()
            asked = {"subscriber": f"trust+{hook.url}"}
            message = {"messages": [{"body": "hello"}]}

            made = requests.post(f"{queue}/subscriptions", json=asked, headers=headers, timeout=60)
            posted = requests.post(f"{queue}/messages", json=message, headers=headers, timeout=60)

            assert (made.status_code, posted.status_code) == (201, 201)
            assert hook.take_until({"hello"}, within_seconds=30) == {"hello"}
            token = hook.tokens["hello"]
    known = cloud.keystone.validated(token)
    assert known is not None
    assert known["user"]["id"] == user.id
