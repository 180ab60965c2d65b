"""Delivery adapters, one per kind of subscriber URI, and the address guard."""

from sinks.base import Sink
from sinks.email import EmailSink
from sinks.guard import AddressForbidden, AddressGuard
from sinks.queue import QueueSink, Relay
from sinks.registry import Sinks
from sinks.webhook import WebhookSink

__all__ = [
    "AddressForbidden",
    "AddressGuard",
    "EmailSink",
    "QueueSink",
    "Relay",
    "Sink",
    "Sinks",
    "WebhookSink",
]
