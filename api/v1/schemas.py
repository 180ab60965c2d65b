"""The bodies of version 1 alone, as types."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from api.zaqar.schemas import Exact, Link, Seconds


class MessageOfV1(Exact):
    """A message of a queue; its id is the last part of `href`."""

    href: str
    ttl: Seconds
    age: Seconds
    body: Any


class MessagePageOfV1(Exact):
    """Messages, and where the page after them is."""

    messages: list[MessageOfV1]
    links: list[Link]


class PostedOfV1(Exact):
    """Links to the posted messages, in their order; `partial` is always false."""

    resources: list[str]
    partial: bool


class NewMessageOfV1(Struct):
    """A message to be posted; `ttl` is seconds."""

    body: Any
    ttl: int


class NewClaimOfV1(Struct):
    """How long a claim is to last."""

    ttl: int
    grace: int


class RenewalOfV1(Struct):
    """How long a claim is to last from now on."""

    ttl: int
    grace: int = 0


class ClaimOfV1(Exact):
    """A claim, with the messages that it still holds."""

    age: Seconds
    ttl: Seconds
    messages: list[MessageOfV1]
    href: str


class OwnMetadata(Struct):
    """A queue's metadata: any keys of its owner's. Reserved keys are set by other versions."""


QUEUE = "/v1/queues/demo"
