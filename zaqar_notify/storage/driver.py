"""A driver: everything the service knows of one kind of store before it is open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from enum import StrEnum
from typing import ClassVar

from zaqar_notify.findings import Finding
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.base import MessageStore


class Capability(StrEnum):
    """A promise that drivers keep or not, by the name that Zaqar has for it."""

    FIFO = "FIFO"
    """Messages are browsed and claimed in the order of their posts."""

    CLAIMS = "CLAIMS"
    """Messages can be claimed, and a claim is exclusive."""

    DURABILITY = "DURABILITY"
    """Acknowledged writes survive the end of any process, of ours or of the store."""

    AOD = "AOD"
    """At least one delivery: a message that is claimed and not deleted comes back."""

    HIGH_THROUGHPUT = "HIGH_THROUGHPUT"
    """The more processes and servers there are, the more messages pass through one store."""


NEEDED = frozenset(Capability) - {Capability.HIGH_THROUGHPUT}
"""The guarantees of the service rest on these."""


class Driver(ABC):
    """Opens stores by their URIs. It has no state."""

    about: ClassVar[str]
    """Its stores, for sentences: "a SQLite file"."""

    capabilities: ClassVar[Set[Capability]]
    """The promises that its stores keep. Code asks for a capability, never for a driver by its name."""

    is_shared: ClassVar[bool] = True
    """Whether several processes can use one store at the same time."""

    most_post_bytes: ClassVar[int | None] = None
    """The largest `max_messages_post_size` that a store takes; None: any."""

    @abstractmethod
    async def open(
        self, uri: str, *, unreliable: bool, prepare: bool, keys: Keyring
    ) -> MessageStore:
        """Open the store that `uri` names; it belongs to the running event loop.

        Args:
            unreliable: Accept a store that can lose acknowledged writes.
            prepare: False: change nothing, for a look at the store.
            keys: Those that encrypt and decrypt messages (see `storage.sealing`).

        Raises:
            StartRefused: The URI or the store can't be used; the sentence says why.
        """

    async def diagnose(self, uri: str, keys: Keyring) -> list[Finding] | None:
        """Findings of `doctor` from outside, for a store that can't be opened beside the service.

        None: the store is opened, and asked itself.
        """
        return None
