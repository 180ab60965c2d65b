"""Kinds of subscribers, one module each, with the sinks that deliver to them; and the address guard."""

from sinks.email import EmailSink, MailKind
from sinks.guard import AddressForbidden, AddressGuard
from sinks.queue import QueueKind, QueueSink
from sinks.registry import Sinks, load_kinds
from sinks.webhook import WebhookKind, WebhookSink

__all__ = [
    "AddressForbidden",
    "AddressGuard",
    "EmailSink",
    "MailKind",
    "QueueKind",
    "QueueSink",
    "Sinks",
    "WebhookKind",
    "WebhookSink",
    "load_kinds",
]
