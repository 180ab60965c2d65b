"""`_flavor` in a queue's metadata: it counts when the queue is made, and a queue stays where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import PROJECT, Api, Reply, StartApi
from tests.pools import keep
from zaqar_notify.models import FlavorRef, QueueRef
from zaqar_notify.pools import make_flavor
from zaqar_notify.settings import VERSIONS

PATCH_TYPE = {"Content-Type": "application/openstack-messaging-v2.0-json-patch"}
KEY = "/metadata/_flavor"


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    """With a pool of the flavor `gold`, and one of the other project's flavor `other`."""
    api = await start_api(versions=VERSIONS)
    storage = api.service.storage
    for name in ("p1", "p2"):
        await keep(storage, name, f"sqlite:///{name}.db", weight=0)
    await make_flavor(storage, FlavorRef(PROJECT, "gold"), ["p1"])
    await make_flavor(storage, FlavorRef("p2", "other"), ["p2"])
    return api


async def patch(api: Api, op: str, value: object = None) -> Reply:
    change = {"op": op, "path": KEY} | ({} if op == "remove" else {"value": value})
    return await api.patch("/v2/queues/q", [change], headers=PATCH_TYPE)


@pytest.mark.parametrize("wire", ["v2", "v1.1"])
@pytest.mark.parametrize("flavor", ["silver", "other", "", 5, ["gold"], {}])
async def test_a_new_queue_names_a_flavor_of_its_project(
    api: Api, wire: str, flavor: object
) -> None:
    refused = await api.put(f"/{wire}/queues/q", {"_flavor": flavor})

    assert (refused.status, refused.title) == (400, "Invalid API request")
    assert "_flavor" in refused.json["description"]
    assert (await api.get("/v2/queues")).json["queues"] == []


async def test_without_pools_any_flavor_is_kept(start_api: StartApi) -> None:
    api = await start_api()

    made = await api.put("/v2/queues/q", {"_flavor": ["any"]})
    changed = await patch(api, "replace", "other")

    assert (made.status, changed.status) == (201, 200)
    assert (await api.get("/v2/queues/q")).json["_flavor"] == "other"


async def test_a_queue_that_is_put_again_keeps_its_flavor_and_its_pool(api: Api) -> None:
    await api.service.storage.control.catalogue.place(
        QueueRef(PROJECT, "q"), "default", now=api.service.clock.now()
    )
    made = await api.put("/v2/queues/q")
    again = [await api.put("/v2/queues/q", body) for body in (None, {}, {"_flavor": "gold"})]

    assert made.status == 201
    assert [each.status for each in again] == [204] * 3
    assert (await api.get("/v2/queues/q")).json.get("_flavor") is None
    assert await api.service.storage.control.catalogue.get(QueueRef(PROJECT, "q")) == "default"


async def test_the_flavor_of_a_queue_is_changed_to_that_of_its_pool_only(api: Api) -> None:
    await api.put("/v2/queues/q", {"a": 1})

    refused = [await patch(api, "add", flavor) for flavor in ("gold", "other", "silver", 5)]

    for reply in refused:
        assert (reply.status, reply.title) == (400, "Invalid request body")
        assert "zaqar-notify queue move" in reply.json["description"]
    assert (await patch(api, "add", None)).status == 200


async def test_a_queue_that_was_moved_may_name_the_flavor_of_its_new_pool(api: Api) -> None:
    ref, now = QueueRef(PROJECT, "q"), api.service.clock.now()
    await api.put("/v2/queues/q")
    catalogue = api.service.storage.control.catalogue
    assert await catalogue.place(ref, "default", now=now) == "default"

    await catalogue.move(ref, "default", "p1")
    named = await patch(api, "add", "gold")
    await catalogue.move(ref, "p1", "p2")
    kept = await api.patch(
        "/v2/queues/q", [{"op": "add", "path": "/metadata/a", "value": 1}], headers=PATCH_TYPE
    )
    removed = await patch(api, "remove")

    assert [named.status, kept.status, removed.status] == [200, 200, 200]


async def test_a_new_queue_is_on_a_pool_of_its_flavor_at_once(
    start_api: StartApi, tmp_path: Path
) -> None:
    api = await start_api(admin_mode=True)
    for name in ("p1", "p2"):
        await api.put(f"/v2/pools/{name}", {"uri": f"sqlite://{tmp_path}/{name}.db", "weight": 1})
    await api.put("/v2/flavors/gold", {"pool_list": ["p2"]})

    for number in range(5):
        assert (await api.put(f"/v2/queues/gold{number}", {"_flavor": "gold"})).status == 201
        assert (await api.put(f"/v2/queues/free{number}")).status == 201
        await api.post_bodies(f"gold{number}", number)

    places = {
        name: api.service.storage.pool_of(QueueRef(PROJECT, name))
        for name in (f"{kind}{number}" for kind in ("gold", "free") for number in range(5))
    }
    assert {place for name, place in places.items() if name.startswith("gold")} == {"p2"}
    assert {place for name, place in places.items() if name.startswith("free")} == {"p1"}


async def test_a_flavor_without_pools_that_take_queues_is_tried_again_later(
    start_api: StartApi, tmp_path: Path
) -> None:
    api = await start_api(admin_mode=True)
    await api.put("/v2/pools/p1", {"uri": f"sqlite://{tmp_path}/p1.db", "weight": 0})
    await api.put("/v2/flavors/gold", {"pool_list": ["p1"]})

    refused = await api.put("/v2/queues/q", {"_flavor": "gold"})
    await api.patch("/v2/pools/p1", {"weight": 1})
    made = await api.put("/v2/queues/q", {"_flavor": "gold"})

    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert made.status == 201
