"""From a real Zaqar to this service."""

from __future__ import annotations

import base64
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest
import requests
from typer.testing import CliRunner

from tests.docs.pages import blocks, read
from tests.mongod import DATABASE_PREFIX, mongo_uri
from tests.redis_server import RedisServer, require_redis
from tests.service import Service, command, has_ended, outside_environ
from tests.zaqar import peer
from tests.zaqar.peer import ROOT, Zaqar
from zaqar_notify.cli import app
from zaqar_notify.cli.commands import REFUSED
from zaqar_notify.client import Client, Message
from zaqar_notify.clock import new_id
from zaqar_notify.operations.zaqar.conf import Option, read_zaqar_conf
from zaqar_notify.operations.zaqar.options import is_used, reason_of
from zaqar_notify.operations.zaqar.translation import translated

HOOK = "http://127.0.0.1:9/hook"
QUEUES = ("orders", "other.queue", "secret", "open", "wrong")
KEY = "one:" + base64.b64encode(b"k" * 32).decode()

Options: TypeAlias = Mapping[str, Mapping[str, object]]

OPTIONS: Options = {
    "DEFAULT": {"auth_strategy": "", "admin_mode": True, "unreliable": True, "use_stderr": False},
    "storage": {"message_pipeline": "zaqar.notification.notifier"},
    "signed_url": {"secret_key": "a key of both"},
    "oslo_policy": {
        "policy_file": ROOT / "bench/zaqar/policy.yaml",
        "enforce_new_defaults": False,
        "enforce_scope": False,
    },
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return peer.environment(tmp_path_factory.mktemp("python") / "zaqar")


@pytest.fixture(scope="module", params=["redis", "mongodb"])
def zaqar(
    request: pytest.FixtureRequest, python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Zaqar]:
    with STORES[request.param]() as stores:
        zaqar = Zaqar(python, tmp_path_factory.mktemp("zaqar"), {**OPTIONS, **stores})
        try:
            zaqar.start()
            yield zaqar
        finally:
            zaqar.stop()


@contextmanager
def on_redis() -> Iterator[Options]:
    require_redis()
    server = RedisServer()
    server.start()
    uri = f"redis://127.0.0.1:{server.port}?dbid=1&socket_timeout=30"
    try:
        yield {
            "drivers": {"message_store": "redis", "management_store": "redis"},
            "drivers:message_store:redis": {"uri": uri},
            "drivers:management_store:redis": {"uri": uri},
        }
    finally:
        server.kill()


@contextmanager
def on_mongodb() -> Iterator[Options]:
    """With pools; queues without a flavor are on the store of the configuration all the same."""
    uri = mongo_uri()
    database = urlsplit(uri).path.strip("/")
    yield {
        "DEFAULT": {**OPTIONS["DEFAULT"], "pooling": True},
        "pooling:catalog": {"enable_virtual_pool": True},
        "drivers": {"message_store": "mongodb", "management_store": "mongodb"},
        "drivers:message_store:mongodb": {"uri": uri, "database": f"{database}_m"},
        "drivers:management_store:mongodb": {"uri": uri, "database": database},
    }


STORES: dict[str, Callable[[], AbstractContextManager[Options]]] = {
    "redis": on_redis,
    "mongodb": on_mongodb,
}


@pytest.fixture
def project(zaqar: Zaqar) -> Iterator[str]:
    """A project of the test's own; an import sees all projects."""
    project = f"project-{new_id()}"
    yield project
    with Client(zaqar.url, project) as there:
        for queue in QUEUES:
            there.purge(queue)
            there.delete_queue(queue)


@pytest.fixture(scope="module")
def service(zaqar: Zaqar, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Started with the settings for Zaqar's configuration."""
    directory = tmp_path_factory.mktemp("service")
    file = directory / "zaqar.env"
    text = translated(read_zaqar_conf(zaqar.conf))
    # A database of a test has a name by which it is removed.
    file.write_text(text.replace("/zaqar_notify?", f"/{DATABASE_PREFIX}{new_id()}?"))
    environ = {"ZAQAR_CONFIG_FILE": str(file), "ZAQAR_ENCRYPTION_KEYS": KEY}
    service = Service(directory / "data", environ=environ)
    service.start()
    yield service
    assert service.stop() == 0


def import_words(zaqar: Zaqar, service: Service, *options: str) -> list[str]:
    return ["import", "--from", str(zaqar.conf), "--data", str(service.data), *options]


def imported(zaqar: Zaqar, service: Service, *options: str, exit_code: int = 0) -> Any:
    """The report of an import into a service that runs."""
    done = CliRunner().invoke(app, import_words(zaqar, service, "--json", *options))
    assert done.exit_code == exit_code, done.output
    return json.loads(done.stdout)


def test_every_option_of_zaqar_is_known(python: Path) -> None:
    for section, names in peer.options(python).items():
        for name in names:
            option = Option(section, name.replace("-", "_"))
            assert is_used(option) or reason_of(option), option


def test_with_zaqar_s_settings_the_service_takes_urls_that_zaqar_signed(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    with Client(zaqar.url, project) as there:
        signed = there.share("orders")

    answer = requests.get(
        f"{service.url}/v2/queues/orders/messages",
        headers={**signed.headers, "Client-ID": str(uuid.uuid4())},
        timeout=30,
    )

    assert answer.json()["messages"] == []


def test_queues_and_subscriptions_are_as_they_were_in_zaqar(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    options = {"post_data": "é", "_retry_policy": {"minimum_delay": 1, "maximum_delay": 20}}
    with Client(zaqar.url, project) as there:
        there.create_queue("orders", {"_default_message_ttl": 120, "owner": {"a": [1, None, 1.5]}})
        there.create_queue("other.queue")
        there.subscribe("orders", HOOK, ttl=7000, options=options)
        confirmed = there.subscribe("orders", f"{HOOK}/2", ttl=7000)
        confirm(zaqar, project, "orders", confirmed)
        before = {each.id: each for each in there.subscriptions("orders")}
        metadata = there.queue("orders")

    imported(zaqar, service)

    with Client(service.url, project) as here:
        assert [queue.name for queue in here.queues()] == ["orders", "other.queue"]
        assert here.queue("orders") == metadata
        after = {each.id: each for each in here.subscriptions("orders")}
    assert after.keys() == before.keys()
    for name, each in after.items():
        was = before[name]
        assert (each.subscriber, each.ttl, each.options) == (was.subscriber, was.ttl, was.options)
        assert each.confirmed == was.confirmed == (name == confirmed)
        assert was.age <= each.age <= was.age + 60


def test_an_import_can_be_tried_out_and_repeated(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    with Client(zaqar.url, project) as there:
        there.create_queue("orders", {"a": 1})
        subscription = there.subscribe("orders", HOOK, ttl=7000)

    with Client(service.url, project) as here:
        tried = imported(zaqar, service, "--dry-run")
        assert list(here.queues()) == []
        done = imported(zaqar, service)
        here.update_queue("orders", {"a": 2})
        again = imported(zaqar, service, exit_code=REFUSED)

        assert here.queue("orders")["a"] == 2
        confirm(zaqar, project, "orders", subscription)
        differing = imported(zaqar, service, exit_code=REFUSED)
        replaced = imported(zaqar, service, "--replace")
        assert here.queue("orders")["a"] == 1
        assert here.subscription("orders", subscription).confirmed
    assert tried["queues"] == done["queues"]
    assert tried["subscriptions"] == done["subscriptions"]
    assert again["queues"]["imported"] == again["subscriptions"]["imported"] == 0
    assert again["subscriptions"]["present"] == done["subscriptions"]["imported"]
    assert [(each["project"], each["name"]) for each in again["kept"]] == [(project, "orders")]
    assert {each["what"] for each in differing["kept"]} == {"queue", "subscription"}
    assert replaced["queues"]["replaced"] == replaced["subscriptions"]["replaced"] == 1


def test_what_the_service_would_refuse_is_left_out_and_told(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    with Client(zaqar.url, project) as there:
        there.create_queue("wrong", {"_dead_letter_queue": "no name!"})
        there.subscribe("wrong", HOOK, ttl=7000)
        there.subscribe("open", "http://user:word@192.0.2.1/path", ttl=7000)

    report = imported(zaqar, service, exit_code=REFUSED)

    reasons = {
        (each["what"], each["name"].partition("/")[0]): each["reason"]
        for each in report["left_out"]
    }
    assert "_dead_letter_queue must be a queue name" in reasons["queue", "wrong"]
    assert reasons["subscription", "wrong"] == "its queue is left out"
    assert "deliveries may not reach 192.0.2.1" in reasons["subscription", "open"]
    assert "word" not in json.dumps(report)


def test_messages_come_in_order_with_what_is_left_of_their_lives(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    producer = str(uuid.uuid4())
    with Client(zaqar.url, project, producer) as there:
        there.create_queue("orders", {"_default_message_delay": 1})
        for number in range(24):
            there.post("orders", number, ttl=100 + number, delay=600 if number == 3 else 0)
        there.claim("orders", ttl=300, limit=2)

    report = imported(zaqar, service, "--messages", zaqar.url)
    again = imported(zaqar, service, "--messages", zaqar.url)

    with Client(service.url, project, producer) as here:
        found = pages(here, "orders")
        assert [message.body for message in found] == [each for each in range(24) if each != 3]
        # Zaqar lengthens the lives of messages that it claims.
        for message in found[2:]:
            assert 40 + message.body < message.ttl <= 100 + message.body
        assert here.stats("orders").free == 24
        assert here.messages("orders", echo=False).messages == []
    assert report["messages"] == again["messages"]
    assert report["messages"]["copied"] == 24
    assert report["messages"]["claimed"] > 0


def test_messages_that_zaqar_encrypted_are_copied_clear(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    with Client(zaqar.url, project) as there:
        there.create_queue("secret", {"_enable_encrypt_messages": True})
        there.post("secret", "word")

    imported(zaqar, service, "--messages", zaqar.url)

    with Client(service.url, project) as here:
        assert [message.body for message in pages(here, "secret")] == ["word"]


def test_a_message_that_zaqar_can_not_show_is_named_and_holds_up_no_other(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    with Client(zaqar.url, project) as there:
        there.create_queue("secret", {"_enable_encrypt_messages": True})
        # Zaqar takes it for a pickle.
        there.post("secret", "(", "a", "b", "c")

    report = imported(zaqar, service, "--messages", zaqar.url, exit_code=REFUSED)

    with Client(service.url, project) as here:
        assert [message.body for message in pages(here, "secret")] == ["a", "b", "c"]
    assert [each["what"] for each in report["left_out"]] == ["message"]


def test_the_commands_of_the_page_can_be_run(zaqar: Zaqar, service: Service, project: str) -> None:
    with Client(zaqar.url, project) as there:
        there.create_queue("orders")
    page = read("coming-from-zaqar.md")
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    commands = [
        line.partition(">")[0].split()[1:] for line in lines if line.startswith("zaqar-notify")
    ]
    places = {"/etc/zaqar/zaqar.conf": str(zaqar.conf), "http://127.0.0.1:8888": zaqar.url}

    for words in commands:
        data = ["--data", str(service.data)] if words[0] == "import" else []
        done = CliRunner().invoke(app, [*(places.get(word, word) for word in words), *data])
        assert done.exit_code == 0, done.output
    assert len(commands) == 4


def test_a_kill_in_the_middle_loses_and_doubles_no_message(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    with Client(zaqar.url, project) as there:
        there.create_queue("orders")
        for start in range(0, 100, 20):
            there.post("orders", *range(start, start + 20))
    breaking_off = subprocess.Popen(
        command(*import_words(zaqar, service, "--messages", zaqar.url, "--rate", "20")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=outside_environ(),
    )
    with Client(service.url, project) as here:
        while here.stats("orders").total < 20:
            assert not has_ended(breaking_off)
        consumed = [message.body for message in here.pop("orders", 5)]
    service.kill()
    assert breaking_off.wait(10) != 0
    service.start()

    imported(zaqar, service, "--messages", zaqar.url)

    with Client(service.url, project) as here:
        left = [message.body for message in pages(here, "orders")]
    assert consumed + left == list(range(100))


def test_pools_topics_and_the_places_of_queues_are_as_they_were_in_zaqar(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    if "pooling:catalog" not in zaqar.options:
        pytest.skip("Zaqar's own driver for Redis can't make pools")
    uri, pool = zaqar.options["drivers:message_store:mongodb"]["uri"], f"pool-{new_id()[:8]}"
    database = f"{zaqar.options['drivers:management_store:mongodb']['database']}_pool"
    put(zaqar, project, f"pools/{pool}", uri=f"{uri}&w=1", weight=7, options={"database": database})
    put(zaqar, project, "flavors/gold", pool_list=[pool])
    put(zaqar, project, "topics/news", owner="x")
    with Client(zaqar.url, project) as there:
        there.create_queue("orders", {"_flavor": "gold"})
        there.create_queue("other.queue")
        there.subscribe("orders", HOOK, ttl=7000)
        there.post("orders", "in the pool")

    report = imported(zaqar, service, "--messages", zaqar.url)
    again = imported(zaqar, service, "--messages", zaqar.url)

    shown = json.loads(
        CliRunner()
        .invoke(app, ["pool", "show", pool, "--json", "--data", str(service.data)])
        .stdout
    )
    assert (shown["weight"], shown["project"], shown["flavor"]) == (7, project, "gold")
    assert shown["queues"] == 1
    with Client(service.url, project) as here:
        assert [message.body for message in pages(here, "orders")] == ["in the pool"]
        assert [each.subscriber for each in here.subscriptions("orders")] == [HOOK]
    assert get(service, project, "topics/news")["owner"] == "x"
    assert report["pools"]["imported"] == report["flavors"]["imported"] == 1
    assert again["pools"]["present"] == again["flavors"]["present"] == 1


def test_an_address_that_is_not_zaqar_s_api_loses_nothing_without_a_word(
    zaqar: Zaqar, service: Service, project: str
) -> None:
    with Client(zaqar.url, project) as there:
        there.create_queue("orders")
        there.post("orders", 1, 2)

    report = imported(zaqar, service, "--messages", service.url, exit_code=REFUSED)

    left_out = [each for each in report["left_out"] if each["what"] == "message"]
    assert len(left_out) == 2
    assert report["messages"]["copied"] == report["messages"]["gone"] == 0


def get(service: Service, project: str, path: str) -> Any:
    headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": project}
    return requests.get(f"{service.url}/v2/{path}", headers=headers, timeout=30).json()


def put(zaqar: Zaqar, project: str, path: str, **body: object) -> None:
    headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": project}
    done = requests.put(f"{zaqar.url}/v2/{path}", json=body, headers=headers, timeout=30)
    assert done.status_code == 201, done.text


def pages(client: Client, queue: str) -> list[Message]:
    """All messages that can be seen."""
    found: list[Message] = []
    page = client.messages(queue, echo=True, limit=20)
    while page.messages:
        found += page.messages
        page = client.messages(queue, echo=True, limit=20, marker=page.marker)
    return found


def confirm(zaqar: Zaqar, project: str, queue: str, subscription_id: str) -> None:
    done = requests.put(
        f"{zaqar.url}/v2/queues/{queue}/subscriptions/{subscription_id}/confirm",
        json={"confirmed": True},
        headers={"Client-ID": str(uuid.uuid4()), "X-Project-ID": project},
        timeout=30,
    )
    assert done.status_code == 204, done.text
