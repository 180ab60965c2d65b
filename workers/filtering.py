"""Filter policies of subscriptions, where deliveries are begun."""

from __future__ import annotations

from workers.recorder import Recorder
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Subscription
from zaqar_notify.rules.filter_policy import FILTER_KEY, FilterPolicy, filter_of


def policy_of(subscription: Subscription, recorder: Recorder) -> FilterPolicy | None:
    """The subscription's filter policy. One that can't be read is older than its check: it gets all messages."""
    if not subscription.options.get(FILTER_KEY):
        return None
    try:
        return filter_of(subscription.options)
    except ValidationFailed as error:
        recorder.filter_unreadable(subscription, str(error))
        return None
