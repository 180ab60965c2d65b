"""A kind of subscriber: the one place for everything that the service knows about some URI schemes.

The API asks a kind to check subscribers, the engine asks it for the sink, and `doctor` for a diagnosis. The
kinds are in `sinks/` and in other packages (`sinks.registry`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Protocol

from jsonschema import Draft202012Validator

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.findings import Finding
from zaqar_notify.models import Delivery, JsonObject, NewMessage, Outcome, QueueRef
from zaqar_notify.rules.certificates import SigningKey
from zaqar_notify.rules.formats import ONLY_ZAQAR, Forms
from zaqar_notify.rules.schedules import SNS_HTTP, Preset, Schedule, preset_schedule
from zaqar_notify.rules.unread import Warn
from zaqar_notify.rules.uris import MASK
from zaqar_notify.settings import Settings
from zaqar_notify.storage.suppressions import Suppression


class Sink(ABC):
    """Delivers to the subscribers of one kind."""

    @property
    def troubles(self) -> Sequence[str]:
        """The faults that an operator has to mend before its deliveries go on, in our own words."""
        return ()

    @abstractmethod
    async def deliver(self, delivery: Delivery) -> Outcome:
        """Try once.

        It never sleeps and never retries. A fault of the receiver or the network is an `Outcome`, not an
        error. It is bounded in time and memory, for every answer, and does not alter the delivery. It may
        raise an error about missing files or memory of our own host: that spends no try. Cancelling it
        abandons the try; it is then unknown whether the receiver got the message.
        """

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        return


class Relay(Protocol):
    """The parts of the service that sinks use. It posts a message to a queue as a client would, once per delivery."""

    async def __call__(
        self,
        ref: QueueRef,
        message: NewMessage,
        *,
        origin: str,
        visited: Sequence[str],
        hops: int,
        request_id: str,
    ) -> None:
        """Store `message`; a repeated `origin` stores nothing more, whichever way it comes.

        Args:
            visited: The queues that it crossed.
            hops: Queues that the message will have crossed, this one included.
            request_id: Of the request that posted it first, for logs.

        Raises:
            ValidationFailed: The queue can't take it, now or later.
            StorageUnavailable: No answer came; it may be stored.
        """

    async def signing_key(self) -> SigningKey:
        """The key that signs SNS envelopes.

        Raises:
            WebhooksNotSigned: There is no master key.
            StorageUnavailable: No answer came.
        """

    async def leave(self, ref: QueueRef, internal: QueueRef, record: NewMessage) -> None:
        """Store a record on an internal queue of one of the subscriptions of `ref`.

        Raises:
            StorageUnavailable: No answer came; it may be stored.
        """

    async def suppression(self, project: str, addressee: str) -> Suppression | None:
        """The proof that an addressee wants nothing more from the project; a sink then sends nothing there. The
        delivery that is left out is counted here.

        Args:
            addressee: As `Kind.addressee` spells it.

        Raises:
            StorageUnavailable: No answer came.
        """

    def limit(self, project: str, quota: str) -> int:
        """A quota of the project, as of the last look of this process; 0: no limit."""

    def held_back(self, quota: str) -> None:
        """Count a delivery that the quota holds back."""


class Kind(ABC):
    """One kind of subscriber. It has no state; each process makes one of each kind."""

    schemes: ClassVar[tuple[str, ...]]
    """The URI schemes of its subscribers, lower case, e.g. `("http", "https")`."""

    options: ClassVar[Mapping[str, JsonObject]] = {}
    """The subscription options that its sink reads, each with a JSON schema. `must` in a schema is the
    end of the sentence about a fault: "be a string"."""

    secret_fields: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Of its options that are objects, the fields that are never shown: clients see a mask in their place."""

    forms: ClassVar[Forms] = ONLY_ZAQAR
    """The forms that its deliveries can have; its sink asks `forms.form_of` for each delivery."""

    needs_trust: ClassVar[bool] = False
    """Its deliveries act in the name of the user who subscribed."""

    takes_batches: ClassVar[bool] = False
    """Its sink sends a delivery of several messages as one: their payloads come as a JSON array (`_batch`)."""

    sns_schedule: ClassVar[Schedule] = SNS_HTTP
    """The retries of its deliveries where `ZAQAR_RETRY_DEFAULT` is `sns` and no policy is set."""

    @abstractmethod
    def check(self, uri: str, settings: Settings) -> None:
        """Refuse a subscriber that can't be delivered to. Names of hosts are not resolved here.

        Raises:
            ValidationFailed: Says which part of the URI is wrong, or which setting is missing.
        """

    def check_options(self, options: JsonObject) -> None:
        """Refuse wrong values of its own options.

        Every kind checks the options of every subscription, because a change of the subscriber keeps them.

        Raises:
            ValidationFailed: Names the option, and its permitted values.
        """
        for fault in self._validator.iter_errors(options):
            place = " ".join(str(step)[:80] for step in fault.absolute_path)
            raise ValidationFailed(f"options: {place} must {fault.schema['must']}")

    def check_use(self, options: JsonObject) -> None:
        """Refuse options that its own deliveries must not have. They are checked already by `check_options`.

        Raises:
            ValidationFailed: Names the option, and the reason.
        """
        return

    def warn_of_options(self, options: JsonObject, warn: Warn) -> None:
        """Warn of the parts of its own options that have no effect. The options may be unchecked."""
        return

    def addressee(self, uri: str) -> str | None:
        """The person behind a subscriber, in one spelling; None: there is none.

        A tenant can subscribe a stranger, so one addressee gets only a few requests to confirm.
        """
        return None

    async def diagnose(self, settings: Settings) -> Sequence[Finding]:
        """Findings of `doctor` about its deliveries. Bounded in time, changes nothing, shows no secret."""
        return ()

    @abstractmethod
    def sink(self, settings: Settings, relay: Relay) -> Sink:
        """The sink of this process; made and used in the event loop of the engine.

        Args:
            relay: For deliveries to queues.

        Raises:
            StartRefused: A setting of its own is missing or wrong.
        """

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator({"type": "object", "properties": self.options})


class Kinds:
    """The kinds that this process knows, by scheme."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._kinds = tuple(kinds)
        self._by_scheme = {scheme: kind for kind in self._kinds for scheme in kind.schemes}
        self._secret_fields = {
            name: fields for kind in self._kinds for name, fields in kind.secret_fields.items()
        }

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds)

    def of(self, uri: str) -> Kind | None:
        """The kind of a subscriber; None: nothing here delivers to it."""
        return self._by_scheme.get(scheme_of(uri))

    def described_options(self) -> dict[str, JsonObject]:
        """The options that these kinds read, each with its JSON schema."""
        return {
            name: {key: value for key, value in schema.items() if key != "must"}
            | {"description": f"Read by {', '.join(kind.schemes)}; must {schema['must']}."}
            for kind in self._kinds
            for name, schema in kind.options.items()
        }

    def have_secrets(self, options: object) -> bool:
        """Whether there are secret fields in the options, which may be unchecked."""
        return isinstance(options, dict) and not self._secret_fields.keys().isdisjoint(options)

    def shown(self, options: JsonObject) -> JsonObject:
        """The options with masks in the places of their secrets."""
        return self._with_secrets(options, lambda _name, _field, _secret: MASK)

    def unmasked(self, options: JsonObject, kept: JsonObject) -> JsonObject:
        """The options that a client read with masks, and gives back: a mask stands for the secret in `kept`."""

        def secret(name: str, field: str, value: object) -> object:
            known = kept.get(name)
            return known.get(field, value) if value == MASK and isinstance(known, dict) else value

        return self._with_secrets(options, secret)

    def _with_secrets(
        self, options: JsonObject, secret: Callable[[str, str, object], object]
    ) -> JsonObject:
        """The options with other values for the secret fields that they have."""
        changed = {
            name: value
            | {field: secret(name, field, value[field]) for field in fields if field in value}
            for name, fields in self._secret_fields.items()
            if isinstance(value := options.get(name), dict)
        }
        return options | changed if changed else options

    def needs_trust(self, uri: str) -> bool:
        """Whether deliveries to the subscriber act in the name of the user who subscribed."""
        kind = self.of(uri)
        return kind is not None and kind.needs_trust

    def schedule(self, uri: str, preset: Preset) -> Schedule:
        """The retries of deliveries to a subscriber by a schedule's name."""
        kind = self.of(uri)
        return preset_schedule(preset, sns=kind.sns_schedule if kind else SNS_HTTP)


def scheme_of(uri: str) -> str:
    """The scheme of a URI, lower case; "" when it has none."""
    scheme, colon, _ = uri.partition(":")
    return scheme.lower() if colon else ""
