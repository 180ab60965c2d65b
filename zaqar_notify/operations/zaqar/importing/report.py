"""The report of an import."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from zaqar_notify.operations.zaqar.importing.found import Odd, What

MOST_SHOWN = 10
"""Things with the same reason that are named to a person."""
MOST_TOLD = 1000
"""Things that a report names; those beyond are counted."""


class Count(msgspec.Struct):
    """Of one kind of things: `imported` now, `present` here before as they are in Zaqar, and `replaced`, which
    differed."""

    imported: int = 0
    present: int = 0
    replaced: int = 0


class Messages(msgspec.Struct):
    """`copied` are here now, by this run or a former one; of these so many were `claimed` in Zaqar. Those that were
    `gone` expired, or were deleted in Zaqar meanwhile."""

    copied: int = 0
    claimed: int = 0
    gone: int = 0


class Report(msgspec.Struct):
    """`kept` are things of Zaqar's that differ from one here, which stays; `left_out` are those that were refused."""

    is_dry: bool
    replaces: bool = False
    """Whether what differs here becomes as it is in Zaqar."""
    pools: Count = msgspec.field(default_factory=Count)
    flavors: Count = msgspec.field(default_factory=Count)
    queues: Count = msgspec.field(default_factory=Count)
    subscriptions: Count = msgspec.field(default_factory=Count)
    messages: Messages = msgspec.field(default_factory=Messages)
    kept: list[Odd] = []
    left_out: list[Odd] = []
    untold: int = 0
    """How many more there are of the last two."""

    def note_kept(self, odd: Odd) -> None:
        self._note(self.kept, odd)

    def note_left_out(self, odd: Odd) -> None:
        self._note(self.left_out, odd)

    @property
    def is_complete(self) -> bool:
        """Whether everything is here as it is in Zaqar."""
        return not (self.kept or self.left_out)

    def lines(self) -> Iterator[str]:
        """The lines that tell an operator."""
        verb = "would be imported" if self.is_dry else "imported"
        for name, count in self._counts():
            if count != Count():
                replaced = f", {count.replaced} replaced" if self.replaces else ""
                yield f"{name}: {count.imported} {verb}{replaced}, {count.present} were here already."
        messages = self.messages
        if messages.copied or messages.gone:
            yield f"Messages: {messages.copied} {'would be' if self.is_dry else 'are'} here, {messages.gone} were gone."
        if messages.claimed:
            yield (
                f"{messages.claimed} of the messages were claimed in Zaqar, and are free here: another consumer may get "
                "them as well."
            )
        yield from _lines("Kept as they are here", self.kept)
        yield from _lines("Left out", self.left_out)
        if self.untold:
            yield f"{self.untold} more were kept or left out."

    def _counts(self) -> Iterator[tuple[str, Count]]:
        yield "Pools", self.pools
        yield "Flavors", self.flavors
        yield "Queues and topics", self.queues
        yield "Subscriptions", self.subscriptions

    def _note(self, told: list[Odd], odd: Odd) -> None:
        if len(told) < MOST_TOLD:
            told.append(odd)
        else:
            self.untold += 1


def _lines(fate: str, odd: Sequence[Odd]) -> Iterator[str]:
    """For each reason the number of things, and some of them."""
    of_reason = defaultdict[tuple[What, str], list[Odd]](list)
    for each in odd:
        of_reason[each.what, each.reason].append(each)
    for (what, reason), things in of_reason.items():
        plural = "" if len(things) == 1 else "s"
        yield f"{fate}: {len(things)} {what}{plural}: {reason}."
        for each in things[:MOST_SHOWN]:
            yield f"  {f'{each.project} ' if each.project else ''}{each.name}"
        if len(things) > MOST_SHOWN:
            yield f"  and {len(things) - MOST_SHOWN} more, which --json names"
