"""The delivery log of one process with SQLite, after a kill -9."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.service import Service, free_port
from zaqar_notify.client import Client, Delivery

DEADLINE_SECONDS = 30
AT_ONCE = {"_retry_policy": {"retries_with_no_delay": 3}}


def test_the_log_outlives_a_killed_process_and_goes_on(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", environ={"ZAQAR_DELIVERY_ALLOW": "127.0.0.0/8"})
    service.start()
    dead = f"http://127.0.0.1:{free_port()}/"
    with Client(service.url, "demo") as client:
        subscription_id = client.subscribe("orders", dead, options=AT_ONCE)
        [message_id] = client.post("orders", {"order": 1042})
        before = seen(client, message_id, lambda found: len(found.attempts) >= 1)

        service.kill()
        service.start()
        after = seen(client, message_id, lambda found: len(workers(found)) == 2)
        page = client.deliveries.of_subscription("orders", subscription_id, limit=1)
        rest = client.deliveries.of_subscription("orders", subscription_id, page.marker)
        stats = client.deliveries.stats("orders", subscription_id)

    assert after.attempts[: len(before.attempts)] == before.attempts
    assert [each.attempt for each in after.attempts] == sorted(
        each.attempt for each in after.attempts
    )
    assert [*page.attempts, *rest.attempts][: len(after.attempts)] == after.attempts
    assert stats.last_error is not None
    assert (stats.last_error.verdict, stats.delivered) == ("try_later", 0)
    assert service.stop() == 0


def workers(found: Delivery) -> set[str]:
    return {each.worker for each in found.attempts}


def seen(client: Client, message_id: str, is_so: Callable[[Delivery], bool]) -> Delivery:
    """The delivery of the message, once the log shows that of it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = list(client.deliveries.of_message("orders", message_id))
        if found and is_so(found[0]):
            return found[0]
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
