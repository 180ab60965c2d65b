"""Flavors as operators and clients see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import Api, StartApi, make_token
from tests.pools import install_away, keep

OTHER = {"X-Project-ID": "p2"}
CAPABILITIES = ["FIFO", "CLAIMS", "DURABILITY", "AOD", "HIGH_THROUGHPUT"]


@pytest.fixture
async def api(start_api: StartApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """With the pools p1 to p3 of one kind, and `file`."""
    install_away(tmp_path, monkeypatch)
    api = await start_api(admin_mode=True)
    for name in ("p1", "p2", "p3"):
        await keep(api.service.storage, name, f"away://host/{name}")
    await keep(api.service.storage, "file", "sqlite:///file.db")
    return api


async def flavors_of_pools(api: Api) -> dict[str, str | None]:
    pools = (await api.get("/v2/pools")).json["pools"]
    return {pool["name"]: pool["flavor"] for pool in pools if pool["flavor"]}


async def test_a_flavor_is_shown_with_the_promises_of_its_stores(api: Api) -> None:
    asked = {"pool_list": ["p2", "p1", "p1"], "capabilities": {"ignored": True}}
    made = await api.put("/v2/flavors/gold", asked)
    shown = await api.get("/v2/flavors/gold")

    assert (made.status, made.body, made.headers["Location"]) == (201, b"", "/v2/flavors/gold")
    assert shown.json == {
        "name": "gold",
        "capabilities": CAPABILITIES,
        "pool_list": ["p1", "p2"],
        "href": "/v2/flavors/gold",
    }
    assert await flavors_of_pools(api) == {"p1": "gold", "p2": "gold"}


@pytest.mark.parametrize(("method", "status"), [("PUT", 201), ("PATCH", 200)])
async def test_pools_that_are_no_longer_listed_are_taken_out(
    api: Api, method: str, status: int
) -> None:
    await api.put("/v2/flavors/gold", {"pool_list": ["p1", "p2"]})

    reply = await api.call(method, "/v2/flavors/gold", {"pool_list": ["p2", "p3"]})

    assert reply.status == status
    assert await flavors_of_pools(api) == {"p2": "gold", "p3": "gold"}
    if method == "PATCH":
        assert reply.json == (await api.get("/v2/flavors/gold")).json


async def test_a_flavor_takes_pools_from_another(api: Api) -> None:
    await api.put("/v2/flavors/gold", {"pool_list": ["p1", "p2"]})

    await api.put("/v2/flavors/silver", {"pool_list": ["p2"]})

    assert await flavors_of_pools(api) == {"p1": "gold", "p2": "silver"}


async def test_flavors_are_listed_by_name_a_page_at_a_time(api: Api) -> None:
    for name, pool in (("b", "p1"), ("a", "p2"), ("c", "file")):
        await api.put(f"/v2/flavors/{name}", {"pool_list": [pool]})
    await api.patch("/v2/pools/p1", {"flavor": ""})

    first = (await api.get("/v2/flavors?limit=2&detailed=True")).json
    [link] = first["links"]
    second = (await api.get(link["href"])).json
    plain = (await api.get("/v2/flavors?marker=b")).json

    assert link["href"] == "/v2/flavors?limit=2&detailed=true&marker=b"
    assert first["flavors"] == [
        {
            "name": "a",
            "href": "/v2/flavors/a",
            "pool_list": ["p2"],
            "capabilities": CAPABILITIES,
        },
        {"name": "b", "href": "/v2/flavors/b", "capabilities": []},
    ]
    assert second["flavors"][0]["capabilities"] == CAPABILITIES[:-1]
    assert plain["flavors"] == [{"name": "c", "href": "/v2/flavors/c", "pool_list": ["file"]}]


async def test_equal_names_in_two_projects_are_two_flavors(api: Api) -> None:
    await api.put("/v2/flavors/gold", {"pool_list": ["p1"]})
    await api.put("/v2/flavors/gold", {"pool_list": ["p2"]}, headers=OTHER)

    assert (await api.get("/v2/flavors/gold")).json["pool_list"] == ["p1"]
    assert (await api.delete("/v2/flavors/gold", headers=OTHER)).status == 204
    assert (await api.get("/v2/flavors/gold")).json["pool_list"] == ["p1"]
    assert (await api.get("/v2/flavors/gold", headers=OTHER)).status == 404
    assert (await api.get("/v2/flavors", headers=OTHER)).json == {"links": [], "flavors": []}


async def test_the_pools_of_a_deleted_flavor_are_of_none(api: Api) -> None:
    await api.put("/v2/flavors/gold", {"pool_list": ["p1"]})

    assert [(await api.delete("/v2/flavors/gold")).status for _ in range(2)] == [204, 204]

    gone = await api.get("/v2/flavors/gold")
    assert (gone.status, gone.title) == (404, "Not found")
    assert await flavors_of_pools(api) == {}


async def test_a_pool_may_name_a_flavor_that_is_made_later(api: Api) -> None:
    await api.patch("/v2/pools/p1", {"flavor": "gold"})
    assert (await api.get("/v2/flavors/gold")).status == 404

    await api.put("/v2/flavors/gold", {"pool_list": ["p1", "p2"]})

    assert (await api.get("/v2/flavors/gold")).json["pool_list"] == ["p1", "p2"]


@pytest.mark.parametrize(
    ("method", "pools", "title"),
    [
        ("PUT", [], "Unable to create"),
        ("PUT", ["p1", "none"], "Unable to create"),
        ("PUT", ["p1", "file"], "Unable to create"),
        ("PATCH", [], "Unable to create"),
        ("PATCH", ["p1", "none"], "updatefail"),
        ("PATCH", ["p1", "file"], "updatefail"),
    ],
)
async def test_lists_of_pools_that_make_no_flavor(
    api: Api, method: str, pools: list[str], title: str
) -> None:
    await api.put("/v2/flavors/gold", {"pool_list": ["p3"]})

    reply = await api.call(method, "/v2/flavors/gold", {"pool_list": pools})

    assert (reply.status, reply.title) == (400, title)
    assert await flavors_of_pools(api) == {"p3": "gold"}


async def test_the_words_of_zaqar_s_refusal(api: Api) -> None:
    reply = await api.put("/v2/flavors/gold", {"pool_list": ["mypool"]})

    assert reply.json == {
        "title": "Unable to create",
        "description": "Flavor gold could not be created, error:Pool mypool does not exist",
    }


BAD_BODIES: list[bytes | None] = [
    None,
    b"",
    b"{",
    b"[]",
    b"\xff",
    b"{}",
    b'{"capabilities": {}}',
    b'{"location": 1}',
] + [b'{"pool_list": %s}' % each for each in (b"1", b'"p1"', b"null", b"[1]", b"[[]]", b"{}")]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_bad_flavors(api: Api, method: str) -> None:
    await api.put("/v2/flavors/gold", {"pool_list": ["p1"]})

    for body in BAD_BODIES:
        reply = await api.call(method, "/v2/flavors/gold", body=body)

        assert (reply.status, reply.title) == (400, "Invalid request body"), body
    assert await flavors_of_pools(api) == {"p1": "gold"}


async def test_other_fields_are_refused_in_a_put_and_ignored_in_a_patch(api: Api) -> None:
    body = {"pool_list": ["p1"], "capabilities": [], "location": 100, "pool_lst": 1}

    assert (await api.put("/v2/flavors/gold", body)).status == 400
    await api.put("/v2/flavors/gold", {"pool_list": ["p2"]})
    changed = await api.patch("/v2/flavors/gold", body)

    assert (changed.status, changed.json["pool_list"]) == (200, ["p1"])
    assert "did you mean pool_list?" in changed.headers["Warning"]


async def test_names_that_no_flavor_has(api: Api) -> None:
    for name in ("a%20b", "f" * 256, "%E6%B1%89", "..", "a%00"):
        path, body = f"/v2/flavors/{name}", {"pool_list": ["p1"]}
        assert (await api.put(path, body)).status in (400, 404), name
        assert (await api.patch(path, body)).status == 404, name
    assert (await api.patch("/v2/pools/p1", {"flavor": "a b"})).status == 400
    assert await flavors_of_pools(api) == {}


async def test_everyone_reads_flavors_and_operators_change_them(
    start_api: StartApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_away(tmp_path, monkeypatch)
    api = await start_api(admin_mode=True, auth="token")
    member, operator = [
        {"X-Auth-Token": await make_token(api, scope=scope)} for scope in ("member", "operator")
    ]
    await keep(api.service.storage, "p1", "away://host/p1")
    body = {"pool_list": ["p1"]}

    refused = [
        await api.put("/v2/flavors/gold", body, headers=member),
        await api.delete("/v2/flavors/gold", headers=member),
        await api.get("/v2/pools", headers=member),
        await api.put("/v2/pools/p2", {"uri": "sqlite:///x.db", "weight": 1}, headers=member),
    ]
    made = await api.put("/v2/flavors/gold", body, headers=operator)

    assert [each.status for each in refused] == [403] * 4
    assert made.status == 201
    assert (await api.get("/v2/flavors/gold", headers=member)).json["pool_list"] == ["p1"]
