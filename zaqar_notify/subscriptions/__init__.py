"""Service functions for subscriptions: `changing.py` makes and changes them, `reading.py` shows them with their
undelivered messages, `secrets.py` has the secrets of their webhooks, `holding.py` has those that WebSockets hold."""

from __future__ import annotations

from zaqar_notify.subscriptions.changing import change, confirm, create, delete, renewal
from zaqar_notify.subscriptions.holding import end_if_held, hold, is_held
from zaqar_notify.subscriptions.reading import GivenUp, get, list_subscriptions, undelivered
from zaqar_notify.subscriptions.secrets import SigningSecret, rotate_secret, secret

__all__ = [
    "GivenUp",
    "SigningSecret",
    "change",
    "confirm",
    "create",
    "delete",
    "end_if_held",
    "get",
    "hold",
    "is_held",
    "list_subscriptions",
    "renewal",
    "rotate_secret",
    "secret",
    "undelivered",
]
