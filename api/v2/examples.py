"""Examples that several resources show in their documentation."""

from __future__ import annotations

from api.resources import Parameter
from api.v2.schemas import Link, Message, Seconds

MESSAGE_ID = "1a22a85cc4a00000dc341f47"
CLAIM_ID = "0b6fe8e4a8a64a6f9f3c2d1e5b7a9c08"
SUBSCRIPTION_ID = "57692aa63990b48c644bb7e5"

MESSAGE = Message(
    id=MESSAGE_ID,
    href=f"/v2/queues/demo/messages/{MESSAGE_ID}",
    ttl=300,
    age=5,
    body={"event": "hello"},
)

LINKS = [Link("next", f"/v2/queues/demo/messages?marker={MESSAGE_ID}")]

MARKER = Parameter(
    "marker", "Begin after this position, as a `next` link gives it.", str, MESSAGE_ID
)
WAIT = Parameter(
    "wait",
    "Seconds to wait while there is nothing, 0 to 20; woken by the first change.",
    Seconds,
    0,
)
