"""Which kinds of subscribers there are: ours, and those of packages that are installed beside us."""

from __future__ import annotations

from importlib.metadata import entry_points

from sinks.email import MailKind
from sinks.push import PushKind
from sinks.queue import QueueKind
from sinks.trust import TrustKind
from sinks.webhook import WebhookKind
from zaqar_notify.delivery.kinds import Kind, Kinds, Relay, Sink, scheme_of
from zaqar_notify.extensions import load
from zaqar_notify.settings import Settings

OURS: tuple[type[Kind], ...] = (WebhookKind, MailKind, QueueKind, TrustKind, PushKind)

ENTRY_POINTS = "zaqar_notify.sinks"
"""The group in which a package names its kind, by scheme: `lines = "my_package.lines:LinesKind"`."""


def load_kinds(settings: Settings) -> Kinds:
    """Ours, and those of other packages whose schemes the settings permit. No package replaces ours.

    Raises:
        StartRefused: A package's kind can't be loaded.
    """
    ours = [kind() for kind in OURS]
    known = {scheme for kind in ours for scheme in kind.schemes}
    others: dict[str, Kind] = {}
    for scheme in set(settings.subscriber_types) - known:
        for entry_point in entry_points(group=ENTRY_POINTS, name=scheme):
            if entry_point.value not in others:
                others[entry_point.value] = load(entry_point, Kind)  # type: ignore[type-abstract]
    return Kinds((*others.values(), *ours))


class Sinks:
    """The sinks of this process, one for each kind that the settings permit."""

    def __init__(self, kinds: Kinds, settings: Settings, relay: Relay) -> None:
        self._by_scheme: dict[str, Sink] = {}
        for kind in kinds:
            schemes = [scheme for scheme in kind.schemes if scheme in settings.subscriber_types]
            if schemes:
                self._by_scheme |= dict.fromkeys(schemes, kind.sink(settings, relay))

    def for_subscriber(self, uri: str) -> Sink | None:
        """The sink for a subscriber URI; None when its scheme is not among `subscriber_types`."""
        return self._by_scheme.get(scheme_of(uri))

    @property
    def troubles(self) -> dict[str, int]:
        """How many things an operator has to mend, by scheme."""
        return {scheme: len(sink.troubles) for scheme, sink in self._by_scheme.items()}

    async def close(self) -> None:
        """Close all sinks. Idempotent."""
        for sink in set(self._by_scheme.values()):
            await sink.close()
