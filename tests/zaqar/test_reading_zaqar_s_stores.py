"""Zaqar's databases as they may be: half-written, not Zaqar's, out of reach."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pymongo
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from typer.testing import CliRunner

from tests.mongod import mongo_uri
from tests.redis_server import RedisServer, require_redis
from tests.service import free_port
from zaqar_notify.cli import app
from zaqar_notify.cli.commands import REFUSED
from zaqar_notify.errors import StartRefused
from zaqar_notify.models import FlavorRef, QueueRef
from zaqar_notify.operations.zaqar.importing import api, sources
from zaqar_notify.operations.zaqar.importing.addresses import (
    Address,
    Addresses,
    address_of,
    addresses_of,
)
from zaqar_notify.operations.zaqar.importing.found import FoundMessage, FoundPool, FoundQueue, Odd
from zaqar_notify.operations.zaqar.importing.pooling import pool_uri
from zaqar_notify.operations.zaqar.importing.wish import Api
from zaqar_notify.rules.names import topic_ref

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def on_redis(redis: RedisServer) -> RedisServer:
    redis.client.flushall()
    return redis


class Databases:
    """An empty MongoDB for Zaqar's databases."""

    def __init__(self) -> None:
        self.uri = mongo_uri()
        self.name = pymongo.uri_parser.parse_uri(self.uri)["database"]
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self.uri)

    def add(self, suffix: str, collection: str, *records: dict[str, Any]) -> None:
        self.client[f"{self.name}{suffix}"][collection].insert_many(records)


@pytest.fixture
def on_mongodb() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.client.close()


def read(address: Address | str, what: str, **arguments: Any) -> list[Any]:
    """All that a store has of one kind."""

    async def all_of() -> list[Any]:
        store = sources.open_store(address_of(address) if isinstance(address, str) else address)
        try:
            found: AsyncIterator[Any] = getattr(store, what)(**arguments)
            return [each async for each in found]
        finally:
            await store.close()

    return asyncio.run(all_of())


def refusal(uri: str) -> str:
    async def check() -> None:
        store = sources.open_store(address_of(uri))
        try:
            await store.check(has_queues=True)
        finally:
            await store.close()

    with pytest.raises(StartRefused) as refused:
        asyncio.run(check())
    return str(refused.value)


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def test_queues_on_redis_are_read_and_half_written_ones_are_told(on_redis: RedisServer) -> None:
    client = on_redis.client
    client.zadd("a.b.queues_set", {f"a.b.{name}": 1 for name in ("good", "bad", "gone", "odd")})
    client.hset("a.b.good", mapping={"m": packed({"x": {"y": [1, None]}})})
    client.hset("a.b.bad", mapping={"m": b"\xc1"})
    client.set("a.b.odd", "no hash")

    found = read(on_redis.uri, "queues")

    assert [each for each in found if isinstance(each, FoundQueue)] == [
        FoundQueue(QueueRef("a.b", "good"), {"x": {"y": [1, None]}})
    ]
    odd = {each.name: each.reason for each in found if isinstance(each, Odd)}
    assert set(odd) == {"bad", "gone", "odd"}
    assert odd["gone"] == "its record lacks the metadata"


def test_subscriptions_on_redis_are_those_that_live(on_redis: RedisServer) -> None:
    client: Any = on_redis.client
    end = int(LATER.timestamp())
    good = {"s": "q.1", "u": "http://h/", "t": 3600, "e": end, "o": packed(None), "c": 1}
    client.zadd("p.q.1.subscriptions", dict.fromkeys(("good", "old", "half", "expired"), 1))
    client.hset("good", mapping=good)
    client.hset("old", mapping={name: good[name] for name in "suteo"})
    client.hset("half", mapping={"s": "q.1"})
    # Not a set of subscriptions, but a queue of that name.
    client.hset("p.subscriptions", mapping={"m": packed({})})

    found = read(on_redis.uri, "subscriptions", now=NOW)

    subscriptions = {each.id: each for each in found if not isinstance(each, Odd)}
    assert set(subscriptions) == {"good", "old"}
    assert subscriptions["good"].queue == QueueRef("p", "q.1")
    assert subscriptions["good"].options == {}
    assert subscriptions["old"].confirmed
    assert [(each.name, each.reason) for each in found if isinstance(each, Odd)] == [
        ("half", "its record lacks 't'")
    ]


def test_pools_on_redis_are_read(on_redis: RedisServer) -> None:
    client = on_redis.client
    client.zadd("pools", {"one.pools": 1})
    client.hset(
        "one.pools",
        mapping={"pl": "one", "u": "redis://h", "w": 7, "f": "gold", "o": packed({"a": 1})},
    )

    assert read(on_redis.uri, "pools") == [FoundPool("one", "redis://h", 7, "gold", {"a": 1})]


def test_the_pools_of_queues_on_redis_are_read(on_redis: RedisServer) -> None:
    client = on_redis.client
    client.zadd("a.b.catalogue", {"a.b.q.1": 1, "a.b.gone": 1})
    client.hset("a.b.q.1.catalogue", mapping={"p": "a.b", "p_q": "q.1", "p_p": "one"})

    assert read(on_redis.uri, "catalogue") == [(QueueRef("a.b", "q.1"), "one")]


def test_messages_on_redis_are_in_order_and_expired_ones_are_left_out(
    on_redis: RedisServer,
) -> None:
    client: Any = on_redis.client
    now = int(NOW.timestamp())
    client.zadd("p.q.messages", {"second": 20, "first": 3, "expired": 4})
    client.hset("first", mapping={"u": "c", "cr": now - 5, "d": now + 5, "c.e": now + 9})
    client.hset("second", mapping={"u": "c", "cr": now, "d": now, "c.e": now})

    assert read(on_redis.uri, "messages", ref=QueueRef("p", "q"), now=NOW) == [
        FoundMessage("first", "c", 10, is_claimed=True),
        FoundMessage("second", "c", 0, is_claimed=False),
    ]


def test_more_queues_than_one_page_are_all_read(on_redis: RedisServer) -> None:
    names = [f"q{number:04}" for number in range(1100)]
    on_redis.client.zadd("p.queues_set", {f"p.{name}": 1 for name in names})
    with on_redis.client.pipeline() as pipe:
        for name in names:
            pipe.hset(f"p.{name}", mapping={"m": packed({})})
        pipe.execute()

    assert [each.ref.name for each in read(on_redis.uri, "queues")] == names


def test_queues_on_mongodb_are_read_and_half_written_ones_are_told(on_mongodb: Databases) -> None:
    on_mongodb.add(
        "_queues",
        "queues",
        {"p_q": "a/b/good", "m": {"x": 1 << 40}},
        {"p_q": "a/none"},
        {"p_q": "a/odd", "m": {"x": b"bytes"}},
        {"m": {}},
    )
    on_mongodb.add("_topics", "topics", {"p_t": "a/news", "m": {"b": 1}})

    found = read(on_mongodb.uri, "queues")

    assert [each for each in found if isinstance(each, FoundQueue)] == [
        FoundQueue(QueueRef("a/b", "good"), {"x": 1 << 40}),
        FoundQueue(QueueRef("a", "none"), {}),
        FoundQueue(topic_ref("a", "news"), {"b": 1}),
    ]
    reasons = [(each.what, each.reason) for each in found if isinstance(each, Odd)]
    assert reasons[1:] == [("queue", "its record lacks 'p_q'")]
    assert "bytes" in reasons[0][1]


@pytest.mark.parametrize("end", [LATER, int(LATER.timestamp())], ids=["instant", "seconds"])
def test_ends_of_subscriptions_on_mongodb_may_be_seconds(
    on_mongodb: Databases, end: object
) -> None:
    made = ObjectId()
    on_mongodb.add(
        "_subscriptions",
        "subscriptions",
        {"_id": made, "s": "q", "p": "p", "u": "http://h/", "t": 9, "e": end, "o": None},
        {"s": "q", "p": "p", "u": "http://over/", "t": 9, "e": NOW, "o": {}},
        {"s": "q", "p": "p"},
    )

    living, half = read(on_mongodb.uri, "subscriptions", now=NOW)

    assert living.id == str(made)
    assert living.created_at == made.generation_time
    assert living.expires_at == LATER.replace(microsecond=living.expires_at.microsecond)
    assert living.confirmed
    assert half.reason == "its record lacks 'u'"


def test_half_written_pools_and_flavors_on_mongodb_are_told(on_mongodb: Databases) -> None:
    on_mongodb.add(
        "", "pools", {"n": "one", "u": None, "w": 1}, {"n": "two", "u": "redis://h", "w": 1}
    )
    on_mongodb.add("", "flavors", {"n": "gold", "p": None}, {"n": "gold", "p": "p"})

    odd, pool = read(on_mongodb.uri, "pools")
    odd_flavor, flavor = read(on_mongodb.uri, "flavors")

    assert (odd.name, odd.reason) == ("one", "its URI is no text")
    assert pool == FoundPool("two", "redis://h", 1, None, {})
    assert (odd_flavor.reason, flavor) == ("its project is no text", FlavorRef("p", "gold"))


def test_half_written_messages_on_mongodb_are_asked_for_all_the_same(
    on_mongodb: Databases,
) -> None:
    whole = {"p_q": "p/q", "k": 1, "u": "c", "d": 0, "c": {"id": None, "e": 0}, "e": LATER}
    on_mongodb.add("_messages_p1", "messages", whole, {"p_q": "p/q", "k": 2, "d": "x", "c": 7})
    on_mongodb.add("_messages_p0", "messages", {**whole, "p_q": "p/other"})

    found = read(on_mongodb.uri, "messages", ref=QueueRef("p", "q"), now=NOW)

    assert [(each.client_id, each.delay, each.is_claimed) for each in found] == [
        ("c", 0, False),
        ("", 0, False),
    ]


def test_a_subscription_that_ends_after_the_last_year_ends_with_it(on_mongodb: Databases) -> None:
    end = DatetimeMS(1 << 60)
    record = {"s": "q", "p": "p", "u": "http://h/", "t": 1 << 50, "e": end, "o": {}, "c": False}
    on_mongodb.add("_subscriptions", "subscriptions", record)

    [found] = read(on_mongodb.uri, "subscriptions", now=NOW)

    assert found.expires_at.year == 9999


def test_a_pool_that_can_t_be_used_is_left_out_with_what_needs_it(
    on_mongodb: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAQAR_STORE_URI", f"sqlite://{tmp_path}/store.db")
    on_mongodb.add(
        "", "pools", {"n": "bad", "u": f"redis://127.0.0.1:{free_port()}", "w": 1, "f": "f"}
    )
    on_mongodb.add("", "flavors", {"n": "f", "p": "p"})
    on_mongodb.add(
        "_queues", "queues", {"p_q": "p/a", "m": {"_flavor": "f"}}, {"p_q": "p/b", "m": {}}
    )
    on_mongodb.add("_subscriptions", "subscriptions", {"s": "b"})
    run("pool", "set", "ours", "--uri", f"sqlite://{tmp_path}/pool.db")

    report = json.loads(run("import", "--from", on_mongodb.uri, "--json", exit_code=REFUSED))

    assert report["queues"]["imported"] == 1
    left_out = {(each["what"], each["name"]) for each in report["left_out"]}
    assert left_out >= {("pool", "bad"), ("flavor", "f"), ("queue", "a")}


def run(*words: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == exit_code, done.output
    return done.stdout


def test_a_zaqar_conf_names_the_stores(tmp_path: Path) -> None:
    conf = tmp_path / "zaqar.conf"
    conf.write_text(
        "[drivers]\nmessage_store = redis\n[drivers:message_store:redis]\nuri = redis://r\n"
        "[drivers:management_store:mongodb]\nuri = mongodb://m\ndatabase = mine\nssl_ca_certs = ca.pem\n"
    )

    assert addresses_of(str(conf)) == Addresses(
        management=Address("mongodb://m", "mine", {"tlsCAFile": str(tmp_path / "ca.pem")}),
        messages=Address("redis://r"),
    )


@pytest.mark.parametrize(("plane", "driver"), [("management", "sqlalchemy"), ("message", "swift")])
def test_a_zaqar_conf_with_another_kind_of_store_is_refused(
    tmp_path: Path, plane: str, driver: str
) -> None:
    conf = tmp_path / "zaqar.conf"
    conf.write_text(f"[drivers]\n{plane}_store = {driver}\n")

    with pytest.raises(StartRefused, match=f"{plane}_store .* is {driver}; only mongodb and redis"):
        addresses_of(str(conf))


def test_a_database_that_is_not_zaqar_s_is_refused(
    on_redis: RedisServer, on_mongodb: Databases
) -> None:
    on_redis.client.set("a", "b")
    on_mongodb.add("", "things", {"a": 1})

    assert "no queue of Zaqar's" in refusal(on_redis.uri)
    assert f"no database {on_mongodb.name}_queues" in refusal(on_mongodb.uri)


def test_a_wrong_password_is_told_and_not_shown(on_redis: RedisServer) -> None:
    on_redis.client.acl_setuser("zaqar", enabled=True, passwords=["+right"])

    told = refusal(f"redis://zaqar:wrong@127.0.0.1:{on_redis.port}")

    assert "refuses the user or the password" in told
    assert "wrong" not in told


def test_a_wrong_password_of_mongodb_is_told_and_not_shown(on_mongodb: Databases) -> None:
    told = refusal(on_mongodb.uri.replace("://", "://zaqar:wrong@"))

    assert "refuses the user or the password" in told
    assert "wrong" not in told


# The library leaves a socket behind when it is closed while it connects.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_without_an_answer_is_told_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zaqar_notify.operations.zaqar.importing.mongodb.ANSWER_SECONDS", 0.2)
    port = free_port()

    for uri in (f"redis://:secret@127.0.0.1:{port}", f"mongodb://u:secret@127.0.0.1:{port}"):
        told = refusal(uri)
        assert "answer" in told
        assert "secret" not in told
    gc.collect()


@pytest.mark.parametrize(
    ("uri", "ours"),
    [
        (
            "mongodb.fifo://h1,h2/?replicaSet=rs&w=majority",
            "mongodb://h1,h2/zaqar_notify_a_b?replicaSet=rs",
        ),
        ("redis://:pw@h:1?dbid=3&socket_timeout=1", "redis://:pw@h:1/3"),
    ],
)
def test_a_pool_of_ours_is_beside_zaqar_s(uri: str, ours: str) -> None:
    assert pool_uri(FoundPool("a.b", uri, 1, None, {}), address_of("redis://h")) == ours


async def test_an_api_without_an_answer_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api, "PAUSES_SECONDS", (0,))
    zaqar = api.ZaqarApi(Api(f"http://u:secret@127.0.0.1:{free_port()}"))

    with pytest.raises(StartRefused, match="gives no answer") as refused:
        await zaqar.messages(QueueRef("p", "q"), ["id"])
    zaqar.close()

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("uri", ["mysql://h/zaqar", "mongodb://u:p@", "redis://h:port"])
def test_a_uri_that_names_no_such_store_is_refused(uri: str) -> None:
    assert "p@" not in refusal(uri).replace("://", "")
