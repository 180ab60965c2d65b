"""Which kinds of subscribers there are: ours, and those of packages that are installed beside us."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from sinks.email import MailKind
from sinks.queue import QueueKind
from sinks.webhook import WebhookKind
from zaqar_notify.errors import StartRefused
from zaqar_notify.kinds import Kind, Kinds, Relay, Sink, scheme_of
from zaqar_notify.settings import Settings

OURS: tuple[type[Kind], ...] = (WebhookKind, MailKind, QueueKind)

ENTRY_POINTS = "zaqar_notify.sinks"
"""The group in which a package names its kind, by scheme: `lines = "my_package.lines:LinesKind"`."""


def load_kinds(settings: Settings) -> Kinds:
    """Ours, and those of other packages whose schemes the settings permit. No package replaces ours.

    Raises:
        StartRefused: A package's kind can't be loaded.
    """
    known = {scheme for kind in OURS for scheme in kind.schemes}
    others: dict[str, type[Kind]] = {}
    for scheme in set(settings.subscriber_types) - known:
        for entry_point in entry_points(group=ENTRY_POINTS, name=scheme):
            others[entry_point.value] = _load(entry_point)
    return Kinds(kind() for kind in (*others.values(), *OURS))


def _load(entry_point: EntryPoint) -> type[Kind]:
    try:
        kind = entry_point.load()
    except Exception as error:
        raise StartRefused(
            f"The sink of {entry_point.name}: subscribers, {entry_point.value}, can't be loaded: "
            f"{type(error).__name__}: {error}; mend its package, or take {entry_point.name} from "
            "ZAQAR_SUBSCRIBER_TYPES"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Kind)):
        raise StartRefused(
            f"{entry_point.value}, named for {entry_point.name}: subscribers, is no subclass of "
            "zaqar_notify.kinds.Kind"
        )
    return kind


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
