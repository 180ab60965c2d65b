"""Service functions for subscriptions: `changing.py` makes and changes them, `reading.py` shows them with their
undelivered messages, `linked.py` confirms and ends them by the links of mails, `suppressing.py` has the
addresses that unsubscribed, `secrets.py` has the secrets of their webhooks,
`holding.py` has those that WebSockets hold, `pausing.py` pauses and resumes them, `bulk.py` has replays and redrives,
`leaving.py` leaves jobs for the workers. `log.py` reads the delivery log, `deliveries.py` finds deliveries in it,
`statistics.py` counts. `trying.py` sends a test message to one of them."""

from __future__ import annotations

from zaqar_notify.subscriptions.bulk import (
    cancel_replay,
    redrive,
    replay,
    replay_of_id,
    replays,
)
from zaqar_notify.subscriptions.changing import change, confirm, create, delete, renewal
from zaqar_notify.subscriptions.deliveries import (
    AttemptPage,
    DeliveryPage,
    LoggedDelivery,
    attempts,
    deliveries_of_message,
    delivery,
)
from zaqar_notify.subscriptions.holding import end_if_held, hold, is_held
from zaqar_notify.subscriptions.linked import (
    confirm_by_link,
    linked,
    token_to_come_back,
    unsubscribe_by_link,
)
from zaqar_notify.subscriptions.log import OUTCOMES, Logged, Wanted, Where
from zaqar_notify.subscriptions.pausing import pause, resume, waiting
from zaqar_notify.subscriptions.reading import GivenUp, get, list_subscriptions, undelivered
from zaqar_notify.subscriptions.secrets import SigningSecret, public_key, rotate_secret, secret
from zaqar_notify.subscriptions.statistics import Statistics, statistics
from zaqar_notify.subscriptions.suppressing import (
    addressee_of,
    list_suppressions,
    remove_suppression,
    suppression_of,
)
from zaqar_notify.subscriptions.trying import Tried, send_test

__all__ = [
    "OUTCOMES",
    "AttemptPage",
    "DeliveryPage",
    "GivenUp",
    "Logged",
    "LoggedDelivery",
    "SigningSecret",
    "Statistics",
    "Tried",
    "Wanted",
    "Where",
    "addressee_of",
    "attempts",
    "cancel_replay",
    "change",
    "confirm",
    "confirm_by_link",
    "create",
    "delete",
    "deliveries_of_message",
    "delivery",
    "end_if_held",
    "get",
    "hold",
    "is_held",
    "linked",
    "list_subscriptions",
    "list_suppressions",
    "pause",
    "public_key",
    "redrive",
    "remove_suppression",
    "renewal",
    "replay",
    "replay_of_id",
    "replays",
    "resume",
    "rotate_secret",
    "secret",
    "send_test",
    "statistics",
    "suppression_of",
    "token_to_come_back",
    "undelivered",
    "unsubscribe_by_link",
    "waiting",
]
