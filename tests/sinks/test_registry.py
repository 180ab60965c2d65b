"""Which sink serves which subscriber."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sinks import (
    EmailSink,
    QueueSink,
    Sinks,
    WebhookKind,
    WebhookSink,
    load_kinds,
)
from tests.kinds import KINDS
from tests.packages import install
from tests.sinks.builders import delivery_to
from tests.sinks.receiver import Receiver
from tests.sinks.test_queue import RecordingRelay
from zaqar_notify.delivery.kinds import Kind, Relay, Sink
from zaqar_notify.errors import StartRefused
from zaqar_notify.models import Verdict
from zaqar_notify.settings import Settings


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("http://host/", WebhookSink),
        ("HTTPS://host/", WebhookSink),
        ("mailto:a@b", EmailSink),
        ("queue:q2", QueueSink),
    ],
)
def test_the_scheme_chooses_the_sink(uri: str, kind: type[Sink]) -> None:
    assert isinstance(Sinks(KINDS, Settings(), RecordingRelay()).for_subscriber(uri), kind)


@pytest.mark.parametrize("uri", ["ftp://host/", "trust+ftp://host/", "", ":"])
def test_no_sink_serves_an_unknown_scheme(uri: str) -> None:
    assert Sinks(KINDS, Settings(), RecordingRelay()).for_subscriber(uri) is None


def test_no_sink_serves_a_scheme_that_is_switched_off() -> None:
    sinks = Sinks(KINDS, Settings(subscriber_types=("https",)), RecordingRelay())

    assert sinks.for_subscriber("https://host/") is not None
    assert sinks.for_subscriber("http://host/") is None


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package that names a kind for each of these schemes."""

    def install_kind(target: str, *schemes: str) -> None:
        names = dict.fromkeys(schemes, target)
        install(tmp_path, "zaqar_notify.sinks", names, monkeypatch=monkeypatch)

    return install_kind


def test_a_package_adds_a_kind_when_the_settings_permit_it(package: Callable[..., None]) -> None:
    package("tests.sinks.test_registry:TwoSchemes", "one", "two")

    kinds = load_kinds(Settings(subscriber_types="http,one,two"))

    assert isinstance(kinds.of("one:a"), TwoSchemes)
    assert kinds.of("two:a") is kinds.of("one:a")
    assert load_kinds(Settings()).of("one:a") is None


def test_a_package_does_not_replace_a_kind_of_ours(package: Callable[..., None]) -> None:
    package("tests.sinks.test_registry:Greedy", "http", "more")

    kinds = load_kinds(Settings(subscriber_types="http,more"))

    assert isinstance(kinds.of("http://host/"), WebhookKind)
    assert isinstance(kinds.of("more:a"), Greedy)


def test_a_package_that_names_no_kind_stops_the_start(package: Callable[..., None]) -> None:
    package("tests.sinks.test_registry:KINDS", "one")

    with pytest.raises(StartRefused, match=r"entry point one of .* is no subclass of .*Kind"):
        load_kinds(Settings(subscriber_types="one"))


class _Other(Kind):
    def check(self, uri: str, settings: Settings) -> None:
        return

    def sink(self, settings: Settings, relay: Relay) -> Sink:
        raise AssertionError("No test here delivers by it")


class TwoSchemes(_Other):
    schemes = ("one", "two")


class Greedy(_Other):
    schemes = ("more", "http")


async def test_the_settings_guard_the_webhooks(receiver: Receiver, settings: Settings) -> None:
    guarded, open_to_loopback = (
        Sinks(KINDS, Settings(), RecordingRelay()),
        Sinks(KINDS, settings, RecordingRelay()),
    )
    verdicts = []
    for sinks in (guarded, open_to_loopback):
        sink = sinks.for_subscriber(receiver.url())
        assert sink is not None
        verdicts.append((await sink.deliver(delivery_to(receiver.url()))).verdict)
        await sinks.close()
        await sinks.close()

    assert verdicts == [Verdict.REFUSED, Verdict.DELIVERED]
