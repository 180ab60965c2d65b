"""Receivers: subscriptions with all that an attempt needs beside the message."""

from __future__ import annotations

import time
from typing import Protocol

from workers.endpoints import Endpoint, Endpoints
from workers.recorder import Failures
from zaqar_notify.clock import Clock
from zaqar_notify.delivery.kinds import Sink, scheme_of
from zaqar_notify.models import Subscription
from zaqar_notify.rules.webhook_signing import webhook_secrets
from zaqar_notify.settings import Settings


class SinkFinder(Protocol):
    def for_subscriber(self, uri: str) -> Sink | None:
        """The sink for a subscriber URI, if there is one."""


class Receiver:
    """A subscription, as a batch of jobs needs it; read again for every batch."""

    __slots__ = (
        "endpoint",
        "failures",
        "is_disabled",
        "is_over",
        "read_at",
        "scheme",
        "secrets",
        "sink",
        "subscription",
    )

    def __init__(
        self, subscription: Subscription, sink: Sink | None, secrets: list[str], endpoint: Endpoint
    ) -> None:
        self.subscription = subscription
        self.sink = sink
        self.secrets = secrets
        self.endpoint = endpoint
        self.scheme = scheme_of(subscription.subscriber)
        self.failures = Failures()
        """In a row, before it last answered."""
        self.is_disabled = False
        """The subscription was paused or disabled during this batch."""
        self.is_over = False
        """It was deleted, or has expired."""
        self.read_at = time.monotonic()

    def knows(self, current: Subscription | None) -> None:
        """The subscription's present state, as it was read just now; None: there is none any more."""
        self.read_at = time.monotonic()
        if current is None:
            self.is_over = True
        else:
            self.is_disabled = current.disabled_at is not None
            # Sink and endpoint are those of the former subscriber; this batch goes on with it.
            if current.subscriber == self.subscription.subscriber:
                self.subscription = current


class Receivers:
    def __init__(
        self, sinks: SinkFinder, endpoints: Endpoints, *, clock: Clock, settings: Settings
    ) -> None:
        self._sinks = sinks
        self._endpoints = endpoints
        self._clock = clock
        self._webhook_secret = settings.webhook_secret.get_secret_value()
        self._overlap_seconds = settings.webhook_secret_overlap_seconds
        self._needs_confirmation = settings.require_confirmation

    def of(self, subscription: Subscription) -> Receiver:
        return Receiver(
            subscription,
            self._sinks.for_subscriber(subscription.subscriber),
            webhook_secrets(
                self._webhook_secret,
                subscription,
                now=self._clock.now(),
                overlap_seconds=self._overlap_seconds,
            ),
            self._endpoints.of(subscription.queue.project, subscription.subscriber),
        )

    def may_notify(self, subscription: Subscription) -> bool:
        """Whether notifications may go there: to be asked to confirm, a subscriber always may."""
        return subscription.confirmed or not self._needs_confirmation
