"""Deliveries that are owed to subscribers, as messages on internal queues.

| internal queue | a message is |
|---|---|
| `outbox.<partition>` | a fan-out job: the messages of one post, for all its queue's subscriptions; a replay; the move of a dead letter to another store; a letter, which is to be stored on a client's queue; a step of bulk work |
| `retry.<partition>` | a delivery: one message for one subscription, delayed until its next attempt |
| `parked.<subscription id>` | a delivery whose try is due, for a receiver that fails or has too much before it, or for a paced subscription |
| `held.<subscription id>` | a delivery for a subscription that is disabled, until it is replayed |
| `places.<subscription id>` | the place that deliveries of a paced subscription keep on its own queue until their next attempt |
| `undelivered.<subscription id>` | the record of a delivery that was given up, and why |
| `pushed.<subscription id>` | a notification that waits for the WebSocket of its subscription |
| `endpoints` | a change of an endpoint's state: it fails, is probed, answers again, or asked for a pause |
| `attempts.<subscription id>` | a group of attempts, for the delivery log |
| `counts.<subscription id>` | the numbers of deliveries that one process made in an hour, for the statistics |
| `wills` | the subscriptions of WebSockets that end if the process that holds them does not come back |
| `bulk.<hash of the project>` | the state of a replay or a redrive that a client ordered |
| `poison` | a job or delivery that no worker could finish |
| `later.<version>` | a job or delivery as a later release wrote it, put there by a worker that could not read it |

Nothing here talks to a store or a network.
"""

from zaqar_notify.delivery.confirmation import confirmation_job, link_expires_at, signed_paths
from zaqar_notify.delivery.jobs import MAX_VISITED, fan_out_jobs, replay_job
from zaqar_notify.delivery.moves import carrier, move_record
from zaqar_notify.delivery.outgoing import (
    Outgoing,
    delivery_id,
    notification,
    outgoing_messages,
    too_many_hops,
)
from zaqar_notify.delivery.records import (
    OWED_TTL_SECONDS,
    UNDELIVERED_TTL_SECONDS,
    VERSION,
    BulkJob,
    FanOut,
    InternalMessage,
    InternalPost,
    Letter,
    Move,
    OwedDelivery,
    OwedMessage,
    Replay,
    Undelivered,
    Work,
    WrittenLater,
    by_queue,
    left_by_earlier_releases,
    read_undelivered,
    read_work,
    say_written_later,
)
from zaqar_notify.delivery.results import (
    held_record,
    later_record,
    parked_record,
    place_record,
    pushed_record,
    retry_record,
    undelivered_record,
)

__all__ = [
    "MAX_VISITED",
    "OWED_TTL_SECONDS",
    "UNDELIVERED_TTL_SECONDS",
    "VERSION",
    "BulkJob",
    "FanOut",
    "InternalMessage",
    "InternalPost",
    "Letter",
    "Move",
    "Outgoing",
    "OwedDelivery",
    "OwedMessage",
    "Replay",
    "Undelivered",
    "Work",
    "WrittenLater",
    "by_queue",
    "carrier",
    "confirmation_job",
    "delivery_id",
    "fan_out_jobs",
    "held_record",
    "later_record",
    "left_by_earlier_releases",
    "link_expires_at",
    "move_record",
    "notification",
    "outgoing_messages",
    "parked_record",
    "place_record",
    "pushed_record",
    "read_undelivered",
    "read_work",
    "replay_job",
    "retry_record",
    "say_written_later",
    "signed_paths",
    "too_many_hops",
    "undelivered_record",
]
