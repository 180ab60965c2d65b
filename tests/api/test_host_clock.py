"""Shown and signed instants follow the host's clock; leases, delays and ttls follow the service's."""

from __future__ import annotations

from datetime import timedelta

from tests.api.conftest import StartApi
from tests.clock import ManualClock

HOUR = timedelta(hours=1)


async def test_stats_show_the_hosts_time_and_the_age_that_has_passed(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api()
    await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}]})
    clock.advance(seconds=10)

    clock.host_ahead = HOUR
    shown = (await api.get("/v2/queues/q/stats")).json["messages"]["oldest"]

    assert (shown["age"], shown["created"]) == (10, "2100-01-01T13:00:00Z")


async def test_a_subscription_s_end_is_shown_by_the_hosts_clock(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api()
    subscription_id = await api.subscribe("q", "https://example.org/hook", ttl=60)

    clock.host_ahead = HOUR
    shown = (await api.get(f"/v2/queues/q/subscriptions/{subscription_id}")).json
    listed = (await api.get("/v2/queues/q/subscriptions")).json["subscriptions"]

    assert shown["expires_at"] == "2100-01-01T13:01:00Z"
    assert listed == [shown]


async def test_a_signed_url_ends_by_the_hosts_clock(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(signed_url_secrets="secret")
    clock.host_ahead = HOUR
    shared = (
        await api.post("/v2/queues/q/share", {"methods": ["GET"], "expires": "2100-01-01T13:30:00"})
    ).json
    headers = {
        "URL-Signature": shared["signature"],
        "URL-Methods": "GET",
        "URL-Paths": ",".join(shared["paths"]),
        "URL-Expires": shared["expires"],
        "X-Project-ID": shared["project"],
    }

    in_time = await api.get("/v2/queues/q/messages", headers=headers)
    clock.host_ahead = 2 * HOUR
    late = await api.get("/v2/queues/q/messages", headers=headers)

    assert (in_time.status, late.status) == (200, 404)
