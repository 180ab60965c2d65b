"""Examples that several resources show in their documentation; `wire` is the prefix of a version."""

from __future__ import annotations

from api.resources import Parameter
from api.zaqar.schemas import Limit, Link, Message, Seconds

MESSAGE_ID = "1a22a85cc4a00000dc341f47"
CLAIM_ID = "0b6fe8e4a8a64a6f9f3c2d1e5b7a9c08"
SUBSCRIPTION_ID = "57692aa63990b48c644bb7e5"


def message(wire: str) -> Message:
    return Message(
        id=MESSAGE_ID,
        href=f"{wire}/queues/demo/messages/{MESSAGE_ID}",
        ttl=300,
        age=5,
        body={"event": "hello"},
    )


def claimed_message(wire: str) -> Message:
    free = message(wire)
    free.href += f"?claim_id={CLAIM_ID}"
    return free


def links(wire: str) -> list[Link]:
    return [Link("next", f"{wire}/queues/demo/messages?marker={MESSAGE_ID}")]


MARKER = Parameter(
    "marker", "Begin after this position, as a `next` link gives it.", str, MESSAGE_ID
)
WAIT = Parameter(
    "wait",
    "Seconds to wait while there is nothing, 0 to 20; woken by the first change.",
    Seconds,
    0,
)
IDS = Parameter(
    "ids", "Message ids, comma separated or repeated; at most 20.", list[str], [MESSAGE_ID]
)
POP = Parameter("pop", "Take so many of the oldest visible messages, 1 to 20.", Limit, 1)
CERTIFICATE_NAME = "SimpleNotificationService-2b0a6f0f4b8d4b3a9c1d5e7f90a1b2c3.pem"
