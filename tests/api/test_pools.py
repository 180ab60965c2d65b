"""Pools as operators see them: statuses, shapes, links, and no passwords."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.conftest import PROJECT, Api, StartApi
from tests.contract.conftest import DRIVERS
from tests.pools import install_away, keep
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.uris import MASK

SECRET = "zqn-hidden-word"
Body = dict[str, object]


@pytest.fixture
async def api(start_api: StartApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    (tmp_path / "site").mkdir()
    install_away(tmp_path / "site", monkeypatch)
    return await start_api(admin_mode=True)


@pytest.fixture
def pool(tmp_path: Path) -> Callable[..., Body]:
    """Makes the body of a pool, which is a file of the test's own."""

    def pool(file: str = "pool.db", **fields: object) -> Body:
        return {"uri": f"sqlite://{tmp_path}/{file}", "weight": 100, **fields}

    return pool


async def test_the_routes_are_there_only_in_admin_mode(start_api: StartApi) -> None:
    api = await start_api()

    for path in ("/v2/pools", "/v2/pools/p", "/v2/flavors", "/v2/flavors/f"):
        assert (await api.get(path)).status == 404
    for wire in ("v1", "v1.1"):
        assert (await api.get(f"/{wire}/pools")).status == 404


async def test_a_registered_pool_is_shown(api: Api, pool: Callable[..., Body]) -> None:
    asked = pool(flavor="gold", options={"a": [1, None]})
    made = await api.put("/v2/pools/p1", asked)
    shown = await api.get("/v2/pools/p1")
    detailed = await api.get("/v2/pools/p1?detailed=true")

    assert (made.status, made.body, made.headers["Location"]) == (201, b"", "/v2/pools/p1")
    assert shown.json == {
        "name": "p1",
        "flavor": "gold",
        "uri": asked["uri"],
        "weight": 100,
        "href": "/v2/pools/p1",
    }
    assert detailed.json == shown.json | {"options": {"a": [1, None]}}


async def test_a_pool_that_is_put_again_is_replaced(api: Api, pool: Callable[..., Body]) -> None:
    await api.put("/v2/pools/p1", pool(flavor="gold", options={"a": 1}))

    again = await api.put("/v2/pools/p1", pool(weight=4294967295))

    shown = (await api.get("/v2/pools/p1?detailed=1")).json
    assert again.status == 201
    assert (shown["flavor"], shown["weight"], shown["options"]) == (None, 4294967295, {})


async def test_a_patch_changes_what_it_names(api: Api, pool: Callable[..., Body]) -> None:
    await api.put("/v2/pools/p1", pool(flavor="gold", options={"a": 1}))

    lighter = await api.patch("/v2/pools/p1", {"weight": 0, "location": "x"})
    free = await api.patch("/v2/pools/p1", {"flavor": "", "options": {"b": 2}})

    assert (lighter.status, lighter.json["weight"], lighter.json["flavor"]) == (200, 0, "gold")
    assert "options" not in lighter.json
    assert (free.json["weight"], free.json["flavor"]) == (0, None)
    assert (await api.get("/v2/pools/p1?detailed=1")).json["options"] == {"b": 2}


async def test_pools_are_listed_by_name_a_page_at_a_time(
    api: Api, pool: Callable[..., Body]
) -> None:
    for name in "bac":
        await keep(api.service.storage, name, f"sqlite:///{name}.db", options={"from": name})

    first = await api.get("/v2/pools?limit=2&detailed=True")
    [link] = first.json["links"]
    second = await api.get(link["href"])
    third = await api.get(second.json["links"][0]["href"])

    assert first.headers["Content-Location"] == "/v2/pools?limit=2&detailed=True"
    assert [each["name"] for each in first.json["pools"]] == ["a", "b"]
    assert first.json["pools"][0]["href"] == "/v2/pools/a"
    assert first.json["pools"][0]["options"] == {"from": "a"}
    assert link == {"rel": "next", "href": "/v2/pools?limit=2&detailed=true&marker=b"}
    assert [each["name"] for each in second.json["pools"]] == ["c"]
    assert third.json == {"links": [], "pools": []}
    assert third.headers["Content-Location"].endswith("marker=c")


async def test_bad_lists(api: Api) -> None:
    for query in ("limit=0", "limit=21", "limit=-1", "limit=x", "detailed=maybe"):
        for kind in ("pools", "flavors"):
            reply = await api.get(f"/v2/{kind}?{query}")

            assert reply.status == 400
            assert reply.title in ("Invalid API request", "Invalid parameter")


async def test_a_deleted_pool_is_gone_and_deleting_it_again_is_no_error(
    api: Api, pool: Callable[..., Body]
) -> None:
    await api.put("/v2/pools/p1", pool())

    assert [(await api.delete("/v2/pools/p1")).status for _ in range(2)] == [204, 204]

    shown = await api.get("/v2/pools/p1")
    assert (shown.status, shown.title) == (404, "Not found")
    assert shown.json["description"] == "Pool p1 does not exist"
    assert (await api.patch("/v2/pools/p1", {"weight": 1})).status == 404


async def test_the_last_pool_of_a_flavor_is_not_deleted(
    api: Api, pool: Callable[..., Body]
) -> None:
    for name in ("p1", "p2"):
        await api.put(f"/v2/pools/{name}", pool(f"{name}.db", flavor="gold"))

    assert (await api.delete("/v2/pools/p1")).status == 204
    refused = await api.delete("/v2/pools/p2")

    assert (refused.status, refused.title) == (403, "Unable to delete")
    assert "is used by flavors gold" in refused.json["description"]
    assert (await api.get("/v2/pools/p2")).status == 200


async def test_a_pool_that_is_away_is_not_deleted_since_it_may_have_jobs(api: Api) -> None:
    await keep(api.service.storage, "p1", "away://host/db")

    assert (await api.delete("/v2/pools/p1")).status == 503
    assert (await api.get("/v2/pools/p1")).status == 200


async def test_a_pool_with_queues_is_neither_deleted_nor_given_another_store(
    api: Api, pool: Callable[..., Body]
) -> None:
    await api.put("/v2/pools/p1", pool())
    await api.post_bodies("orders", 1)

    refused = await api.delete("/v2/pools/p1")
    moved = await api.patch("/v2/pools/p1", pool("other.db"))

    assert (refused.status, refused.title) == (403, "Unable to delete")
    assert "1 queue, such as 'orders' of the project 'p1'" in refused.json["description"]
    assert (moved.status, moved.title) == (409, "Resource conflict")
    assert (await api.get("/v2/pools/p1")).json["uri"] == pool()["uri"]
    assert len((await api.get("/v2/queues/orders/messages?echo=true")).json["messages"]) == 1


async def test_a_refused_deletion_leaves_the_pool_as_it_was(
    api: Api, pool: Callable[..., Body]
) -> None:
    await api.put("/v2/pools/p1", pool())
    before = await api.service.storage.control.pools.read()
    await api.put("/v2/queues/orders")

    assert (await api.delete("/v2/pools/p1")).status == 403

    assert await api.service.storage.control.pools.read() == before
    assert (await api.put("/v2/queues/bills")).status == 201
    assert api.service.storage.pool_of(QueueRef(PROJECT, "bills")) == "p1"


async def test_deliveries_that_are_owed_keep_a_pool(api: Api, pool: Callable[..., Body]) -> None:
    await api.put("/v2/pools/p1", pool())
    await api.subscribe("orders", "http://example.org/")
    await api.post_bodies("orders", 1)
    await api.post("/v2/queues/orders/purge")
    await api.delete("/v2/queues/orders")

    refused = await api.delete("/v2/pools/p1")

    assert (refused.status, refused.title) == (403, "Unable to delete")
    assert "1 jobs and deliveries that are not done" in refused.json["description"]


async def test_a_pool_whose_queues_were_deleted_can_be_deleted(
    api: Api, pool: Callable[..., Body]
) -> None:
    await api.put("/v2/pools/p1", pool())
    await api.post_bodies("orders", 1)
    await api.delete("/v2/queues/orders")

    assert (await api.delete("/v2/pools/p1")).status == 204

    await api.post_bodies("orders", 2)
    assert api.service.storage.pool_of(QueueRef(PROJECT, "orders")) == "default"


async def test_a_pool_without_queues_may_get_another_store(
    api: Api, pool: Callable[..., Body]
) -> None:
    await api.put("/v2/pools/p1", pool())

    changed = await api.patch("/v2/pools/p1", {"uri": pool("other.db")["uri"]})

    assert (changed.status, changed.json["uri"]) == (200, pool("other.db")["uri"])


async def test_two_pools_have_two_stores(api: Api, pool: Callable[..., Body]) -> None:
    await keep(api.service.storage, "p1", f"away://user:{SECRET}@Host/db")
    await keep(api.service.storage, "p2", "away://host/other")
    same = {"uri": "away://somebody@host/db", "weight": 1}

    replies = [await api.put("/v2/pools/p3", same), await api.patch("/v2/pools/p2", same)]

    for reply in replies:
        assert (reply.status, reply.title) == (409, "Resource conflict")
        assert reply.json["description"] == "The database URI is in use by another pool: p1"
    assert (await api.get("/v2/pools/p3")).status == 404


async def test_a_flavor_has_one_kind_of_store(
    api: Api, pool: Callable[..., Body], tmp_path: Path
) -> None:
    await keep(api.service.storage, "p1", "away://host/db")
    await api.put("/v2/flavors/gold", {"pool_list": ["p1"]})
    await keep(api.service.storage, "p2", "sqlite:///2.db")

    replies = [
        await api.put("/v2/pools/p3", pool(flavor="gold")),
        await api.patch("/v2/pools/p2", {"flavor": "gold"}),
    ]

    for reply in replies:
        assert (reply.status, reply.title) == (400, "Unable to create pool")
        assert "minimum set of capabilities" in reply.json["description"]
    assert (await api.get("/v2/flavors/gold")).json["pool_list"] == ["p1"]
    assert not (tmp_path / "pool.db").exists()


async def test_a_store_that_cannot_be_used_is_no_pool(api: Api, tmp_path: Path) -> None:
    (tmp_path / "foreign.db").write_text("something else")
    refused = {
        "mysql://host/db": "no store for which there is a driver",
        "localhost:27017": "no store for which there is a driver",
        "mongodb://[::1/db": "no store for which there is a driver",
        "": "no store for which there is a driver",
        f"sqlite://{tmp_path}/foreign.db": "cannot connect to",
        f"mongodb://user:{SECRET}@127.0.0.1:1/db?w=0": "cannot connect to",
        f"sqlite://{tmp_path}/zaqar.db": "is open in this process already",
    }
    for uri, why in refused.items():
        reply = await api.put("/v2/pools/p1", {"uri": uri, "weight": 1})

        assert (reply.status, reply.title) == (400, "Invalid request body"), uri
        assert why in reply.json["description"]
        assert SECRET not in reply.body.decode()
    assert (await api.get("/v2/pools")).json["pools"] == []


@pytest.mark.parametrize("driver", ["mongodb", "redis"])
async def test_a_database_is_one_pool_whatever_its_uri(
    api: Api, tmp_path: Path, driver: str
) -> None:
    uri = DRIVERS[driver](tmp_path)
    with_an_account = uri.replace("://", f"://nobody:{SECRET}@")
    another = uri.replace("127.0.0.1", "localhost")

    made, same, known = [
        await api.put(f"/v2/pools/p{number}", {"uri": each, "weight": 1})
        for number, each in enumerate((uri, with_an_account, another))
    ]
    queue = await api.put("/v2/queues/q")
    posted = await api.post_bodies("q", 1)

    assert (made.status, queue.status, len(posted)) == (201, 201, 1)
    assert api.service.storage.pool_of(QueueRef(PROJECT, "q")) == "p0"
    for refused in (same, known):
        assert (refused.status, refused.title) == (409, "Resource conflict")


@pytest.mark.parametrize("driver", ["mongodb", "redis"])
async def test_a_wrong_password_is_refused_and_not_repeated(
    api: Api, tmp_path: Path, driver: str
) -> None:
    uri = DRIVERS[driver](tmp_path).replace("://", f"://nobody:{SECRET}@")

    reply = await api.put("/v2/pools/p1", {"uri": uri, "weight": 1})

    assert (reply.status, reply.title) == (400, "Invalid request body")
    assert "cannot connect to" in reply.json["description"]
    assert SECRET not in reply.body.decode()


BAD_POOLS: list[bytes | None] = [
    None,
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"\xff{}",
    b"{}",
    b'{"weight": 1}',
    b'{"uri": "sqlite:///x.db"}',
    b'{"uri": 1, "weight": 1}',
    b'{"uri": null, "weight": 1}',
    b'{"uri": [], "weight": 1}',
    b'{"uri": "sqlite:///x.db", "weight": -1}',
    b'{"uri": "sqlite:///x.db", "weight": 4294967296}',
    b'{"uri": "sqlite:///x.db", "weight": 99999999999999999999}',
    b'{"uri": "sqlite:///x.db", "weight": 1.5}',
    b'{"uri": "sqlite:///x.db", "weight": "1"}',
    b'{"uri": "sqlite:///x.db", "weight": true}',
    b'{"uri": "sqlite:///x.db", "weight": 1, "weights": 1}',
    b'{"uri": "sqlite:///x.db", "weight": 1, "flavor": 1}',
    b'{"uri": "sqlite:///x.db", "weight": 1, "flavor": "%s"}' % (b"f" * 256),
    b'{"uri": "sqlite:///x.db", "weight": 1, "options": []}',
    b'{"uri": "sqlite:///x.db", "weight": 1, "options": null}',
    b'{"uri": "sqlite:///x.db", "weight": 1, "options": {"a": %s1%s}}' % (b"[" * 201, b"]" * 201),
    b'{"uri": "sqlite:///x.db", "weight": 1, "options": {"a": 1e999}}',
    b'{"uri": "sqlite:///%s", "weight": 1}' % (b"x" * 256),
]


async def test_bad_pools(api: Api) -> None:
    for body in BAD_POOLS:
        reply = await api.put("/v2/pools/p1", body=body)

        assert (reply.status, reply.title) == (400, "Invalid request body"), body
    assert (await api.get("/v2/pools/p1")).status == 404


async def test_of_equal_keys_the_last_one_counts(api: Api, pool: Callable[..., Body]) -> None:
    uri = pool()["uri"]

    made = await api.put(
        "/v2/pools/p1", body=f'{{"weight": 1, "uri": "{uri}", "weight": 2}}'.encode()
    )

    assert made.status == 201
    assert (await api.get("/v2/pools/p1")).json["weight"] == 2


BAD_CHANGES: list[bytes | None] = (
    [None, b"", b"{}", b"[]", b'{"location": 1}']
    + [b'{"weight": %s}' % each for each in (b"-1", b"4294967296", b'"big"', b"null", b"[]")]
    + [b'{"uri": %s}' % each for each in (b"-1", b"[]", b"null", b'"localhost:27017"')]
    + [b'{"options": %s}' % each for each in (b"-1", b'"wee"', b"[]", b"null")]
    + [b'{"flavor": %s}' % each for each in (b"1", b"[]")]
)


async def test_bad_changes(api: Api) -> None:
    await keep(api.service.storage, "p1", "sqlite:///1.db")
    before = (await api.get("/v2/pools/p1?detailed=1")).json

    for body in BAD_CHANGES:
        reply = await api.patch("/v2/pools/p1", body=body)

        assert (reply.status, reply.title) == (400, "Invalid request body"), body
    assert (await api.get("/v2/pools/p1?detailed=1")).json == before


NO_NAMES = ("default", "catalog_reachable", "a%20b", "p" * 65, "%E6%B1%89", "..", "a%2Fb", "a%00")


async def test_names_that_no_pool_has(api: Api, pool: Callable[..., Body]) -> None:
    for name in NO_NAMES:
        assert (await api.put(f"/v2/pools/{name}", pool())).status in (400, 404), name
        assert (await api.get(f"/v2/pools/{name}")).status == 404, name
    assert (await api.get("/v2/pools")).json["pools"] == []


async def test_passwords_are_shown_nowhere(
    api: Api, caplog: pytest.LogCaptureFixture, pool: Callable[..., Body]
) -> None:
    caplog.set_level(logging.DEBUG)
    uri = f"away://user:{SECRET}@host/db?tlsCertificateKeyFilePassword={SECRET}"
    await keep(
        api.service.storage, "p1", uri, options={"password": SECRET, "uri": f"x://u:{SECRET}@h"}
    )
    shown = (await api.get("/v2/pools/p1")).json["uri"]

    replies = [
        await api.get("/v2/pools/p1?detailed=1"),
        await api.get("/v2/pools?detailed=1"),
        await api.patch("/v2/pools/p1", {"uri": shown, "weight": 7}),
        await api.put("/v2/pools/p2", {"uri": uri, "weight": 7}),
        await api.put("/v2/pools/p1", {"uri": shown, "weight": 8}),
    ]

    assert shown == f"away://user:{MASK}@host/db?tlsCertificateKeyFilePassword={MASK}"
    assert [each.status for each in replies] == [200, 200, 200, 409, 201]
    assert not any(SECRET in each.body.decode() for each in replies)
    kept = (await api.service.storage.control.pools.read()).pools["p1"]
    assert (kept.uri, kept.weight) == (uri, 8)
    assert not any(SECRET in str(vars(record)) for record in caplog.records)


async def test_a_pool_to_which_a_queue_is_to_move_is_not_deleted(
    api: Api, pool: Callable[..., Body]
) -> None:
    await api.post_bodies("orders", 1)
    await api.put("/v2/pools/p1", pool())
    asked = await api.post("/v2/moves", {"project": PROJECT, "queue": "orders", "pool": "p1"})

    refused = await api.delete("/v2/pools/p1")

    assert asked.status < 300
    assert (refused.status, refused.title) == (403, "Unable to delete")
    assert "is being moved to or from the pool" in refused.json["description"]
