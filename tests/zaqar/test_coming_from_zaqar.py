"""From a real Zaqar to this service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, require_redis
from tests.service import Service
from tests.zaqar import peer
from tests.zaqar.peer import ROOT, Zaqar
from zaqar_notify.client import Client
from zaqar_notify.operations.zaqar import read_zaqar_conf, translated
from zaqar_notify.operations.zaqar.conf import Option
from zaqar_notify.operations.zaqar.options import is_used, reason_of

OPTIONS: dict[str, dict[str, object]] = {
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


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def on_redis(
    python: Path, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Zaqar]:
    uri = f"redis://127.0.0.1:{redis.port}?dbid=1&socket_timeout=30"
    stores = {
        "drivers": {"message_store": "redis", "management_store": "redis"},
        "drivers:message_store:redis": {"uri": uri},
        "drivers:management_store:redis": {"uri": uri},
    }
    zaqar = Zaqar(python, tmp_path_factory.mktemp("zaqar"), {**OPTIONS, **stores})
    zaqar.start()
    yield zaqar
    zaqar.stop()


def test_every_option_of_zaqar_is_known(python: Path) -> None:
    for section, names in peer.options(python).items():
        for name in names:
            option = Option(section, name.replace("-", "_"))
            assert is_used(option) or reason_of(option), option


def test_the_service_starts_with_the_settings_of_a_zaqar_that_runs(
    on_redis: Zaqar, tmp_path: Path
) -> None:
    file = tmp_path / "zaqar.env"
    file.write_text(translated(read_zaqar_conf(on_redis.conf)))

    service = Service(tmp_path / "data", environ={"ZAQAR_CONFIG_FILE": str(file)})
    service.start()

    with Client(service.url) as client:
        client.ping()
    assert service.stop() == 0
