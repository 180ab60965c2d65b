"""Puts the sinks together."""

from __future__ import annotations

from sinks.base import Sink
from sinks.email import EmailSink
from sinks.guard import AddressGuard
from sinks.queue import QueueSink, Relay
from sinks.webhook import WebhookSink
from zaqar_notify.installation import installation_mark
from zaqar_notify.settings import Settings


class Sinks:
    """One sink per kind of subscriber, of the kinds that the settings permit."""

    def __init__(self, settings: Settings, relay: Relay) -> None:
        guard = AddressGuard(
            allow=settings.delivery_allow,
            deny=settings.delivery_deny,
            mark=installation_mark(settings),
        )
        self._sinks: tuple[Sink, ...] = (
            WebhookSink(settings, guard),
            EmailSink(settings),
            QueueSink(relay, max_hops=settings.delivery_max_hops),
        )
        self._by_scheme = {
            scheme: sink
            for sink in self._sinks
            for scheme in sink.schemes
            if scheme in settings.subscriber_types
        }

    def for_subscriber(self, uri: str) -> Sink | None:
        """The sink for a subscriber URI; None when its scheme is not among `subscriber_types`."""
        return self._by_scheme.get(uri.partition(":")[0].lower())

    @property
    def troubles(self) -> dict[str, int]:
        """How many things an operator has to mend, by scheme."""
        return {scheme: len(sink.troubles) for scheme, sink in self._by_scheme.items()}

    async def close(self) -> None:
        """Close all sinks. Idempotent."""
        for sink in self._sinks:
            await sink.close()
