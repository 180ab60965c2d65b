"""The contract of a message store. These docstrings are its specification; `tests/contract` asks it of every driver.

A message store keeps messages, claims, idempotency keys and the internal queues of its own deliveries. The
control store (`storage.control`) keeps queues' records and subscriptions, perhaps in another database. Of
those, a message store keeps the part that a write needs, in a *head* beside each queue's messages.

Rules for all methods:

- `now` is the caller's instant, and every rule about time is a comparison with it: a message has
  expired when `expires_at <= now`, is held by a claim while `now < claim expiry`, is delayed while
  `now < posted + delay`. Deletions on a driver's own account only reclaim space. Time does not
  go back: once a call with some `now` has been answered, calls with an earlier one may be answered
  as of that.
- A message is *visible* when it has not expired, its delay has passed, and no live claim holds it.
- Ids and markers are opaque, of `A-Z a-z 0-9 - _`, and assigned by the store. An ill-formed one
  names nothing.
- A write that returned is durable (the driver's heading names the conditions), and is seen by
  every read that starts afterwards. A write that raised `StorageUnavailable` may have happened.
- Cancelling a write leaves it done or not done, never half done.
- Writes that arrive together are committed together; one that is refused does not touch the others.
"""

from zaqar_notify.storage.base.claims import (
    FREED_AT_START_CLAIMS,
    Carrier,
    Carry,
    Claims,
    DeadLetterRule,
    within_the_store,
)
from zaqar_notify.storage.base.heads import Head, HeadMissing, Heads
from zaqar_notify.storage.base.messages import CANCELLED_KEPT, Messages, Watch
from zaqar_notify.storage.base.posts import IdempotencyKey, Post, ReadyPost
from zaqar_notify.storage.base.store import MessageStore
from zaqar_notify.storage.base.transfer import Transfer

__all__ = [
    "CANCELLED_KEPT",
    "FREED_AT_START_CLAIMS",
    "Carrier",
    "Carry",
    "Claims",
    "DeadLetterRule",
    "Head",
    "HeadMissing",
    "Heads",
    "IdempotencyKey",
    "MessageStore",
    "Messages",
    "Post",
    "ReadyPost",
    "Transfer",
    "Watch",
    "within_the_store",
]
