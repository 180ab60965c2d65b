"""The flavor that a client chooses for a queue, by the key `_flavor` of its metadata.

The choice counts when the queue is made. A queue stays on its pool then, whatever its metadata say.
"""

from __future__ import annotations

from zaqar_notify.errors import BodyInvalid, FlavorDoesNotExist, ValidationFailed
from zaqar_notify.metadata import FLAVOR
from zaqar_notify.models import FlavorRef, JsonObject, QueueRef
from zaqar_notify.storage.planes import Storage


async def check_new_flavor(storage: Storage, ref: QueueRef, metadata: JsonObject) -> None:
    """Refuse the metadata of a new queue if they choose a flavor that the project does not have.

    While no pool is registered any choice is kept, and has no effect.

    Raises:
        ValidationFailed: They do.
    """
    chosen = metadata.get(FLAVOR)
    if chosen is None:
        return
    registered = await storage.control.pools.read()
    if not registered.pools:
        return
    if not isinstance(chosen, str):
        raise ValidationFailed(f"{FLAVOR} must be the name of a flavor")
    if FlavorRef(ref.project, chosen) not in registered.flavors:
        raise ValidationFailed(f"{FLAVOR}: {FlavorDoesNotExist(chosen)}")


async def fixed_flavor(storage: Storage, ref: QueueRef) -> FixedFlavor | None:
    """The only flavor that a queue's metadata may name now; None: they may name any."""
    registered = await storage.control.pools.read()
    if not registered.pools:
        return None
    pool = await storage.control.catalogue.get(ref)
    found = registered.pools.get(pool) if pool is not None else None
    of = None if found is None else found.flavor
    return FixedFlavor(of.name if of is not None and of.project == ref.project else None)


class FixedFlavor:
    """That of the pool which has the queue; a name of None: the pool is of none."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    def check(self, before: JsonObject, after: JsonObject) -> None:
        """Refuse a change to another flavor than that of the queue's pool: it would move nothing.

        Raises:
            BodyInvalid: It is one.
        """
        chosen = after.get(FLAVOR)
        if chosen in (before.get(FLAVOR), self._name):
            return
        raise BodyInvalid(
            f"{FLAVOR} can't be changed: the queue stays on its pool. The operator moves it with "
            "`zaqar-notify queue move QUEUE POOL`; then its metadata may name the flavor of that pool"
        )
