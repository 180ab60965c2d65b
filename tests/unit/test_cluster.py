"""The settings that a process of a cluster needs."""

from __future__ import annotations

import sys

import pytest

from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.cluster import cluster_settings
from zaqar_notify.settings import Settings

STORE = "mongodb://one,two,three/?replicaSet=rs0"
BROKER = "redis://broker:6379/0"


@pytest.mark.parametrize(
    "broker", [BROKER, "rediss://broker/1", "amqp://broker//", "amqps://u:p@b/v"]
)
def test_a_store_and_a_broker_are_enough(broker: str) -> None:
    settings = Settings(store_uri=STORE, broker_uri=broker)

    assert cluster_settings(settings) is settings


@pytest.mark.parametrize(
    ("store", "broker", "said"),
    [
        ("", BROKER, "ZAQAR_STORE_URI is not set"),
        (STORE, "", "ZAQAR_BROKER_URI is not set"),
        (STORE, "memory://", "ZAQAR_BROKER_URI names no broker"),
        (STORE, "broker:6379", "ZAQAR_BROKER_URI names no broker"),
    ],
)
def test_what_is_missing_or_wrong_is_named(store: str, broker: str, said: str) -> None:
    with pytest.raises(StartRefused, match=said):
        cluster_settings(Settings(store_uri=store, broker_uri=broker))


def test_confirmations_that_nothing_signs_are_refused() -> None:
    given = {"store_uri": STORE, "broker_uri": BROKER, "require_confirmation": True}

    with pytest.raises(StartRefused, match="ZAQAR_SIGNED_URL_SECRETS"):
        cluster_settings(Settings(**given))
    assert cluster_settings(Settings(**given, signed_url_secrets="secret")).require_confirmation


MOST_BYTES = 12 << 20


def test_posts_larger_than_a_document_are_refused() -> None:
    given = {"store_uri": STORE, "broker_uri": BROKER}

    assert cluster_settings(Settings(**given, max_messages_post_size=MOST_BYTES))
    with pytest.raises(StartRefused, match=f"may be {MOST_BYTES} at most"):
        cluster_settings(Settings(**given, max_messages_post_size=MOST_BYTES + 1))


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(StartRefused) as refused:
        cluster_settings(Settings(store_uri=STORE, broker_uri="redis:user:hunter2@broker"))

    assert "hunter2" not in str(refused.value)


def test_a_broker_whose_library_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    monkeypatch.delitem(sys.modules, "kombu.transport.redis", raising=False)
    monkeypatch.setitem(sys.modules, "packaging.version", None)

    with pytest.raises(StartRefused, match=r"redis brokers can't be loaded .*packaging.*install"):
        cluster_settings(Settings(store_uri=STORE, broker_uri="redis://broker"))
