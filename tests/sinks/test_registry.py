"""Which sink serves which subscriber."""

from __future__ import annotations

import pytest

from sinks import EmailSink, QueueSink, Sink, Sinks, WebhookSink
from tests.sinks.builders import delivery_to
from tests.sinks.receiver import Receiver
from tests.sinks.test_queue import RecordingRelay
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
    assert isinstance(Sinks(Settings(), RecordingRelay()).for_subscriber(uri), kind)


@pytest.mark.parametrize("uri", ["ftp://host/", "trust+http://host/", "", ":"])
def test_no_sink_serves_an_unknown_scheme(uri: str) -> None:
    assert Sinks(Settings(), RecordingRelay()).for_subscriber(uri) is None


def test_no_sink_serves_a_scheme_that_is_switched_off() -> None:
    sinks = Sinks(Settings(subscriber_types=("https",)), RecordingRelay())

    assert sinks.for_subscriber("https://host/") is not None
    assert sinks.for_subscriber("http://host/") is None


async def test_the_settings_guard_the_webhooks(receiver: Receiver, settings: Settings) -> None:
    guarded, open_to_loopback = (
        Sinks(Settings(), RecordingRelay()),
        Sinks(settings, RecordingRelay()),
    )
    verdicts = []
    for sinks in (guarded, open_to_loopback):
        sink = sinks.for_subscriber(receiver.url())
        assert sink is not None
        verdicts.append((await sink.deliver(delivery_to(receiver.url()))).verdict)
        await sinks.close()
        await sinks.close()

    assert verdicts == [Verdict.REFUSED, Verdict.DELIVERED]
