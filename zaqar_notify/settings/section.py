"""The base of all sections of the settings, and the types of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, ClassVar, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from zaqar_notify.rules.limits import MIN_SECONDS
from zaqar_notify.rules.ports import read_ports

Network: TypeAlias = IPv4Network | IPv6Network
Needs: TypeAlias = Sequence[tuple[str, Sequence[str]]]


class Section(BaseModel):
    """Settings that belong together; the docstring is a sentence about them for operators."""

    title: ClassVar[str]
    needs: ClassVar[Needs] = ()
    """Settings that are of no use without one of the others."""
    at_most: ClassVar[Sequence[tuple[str, str]]] = ()
    """Settings that may not be more than another."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _words(value: object) -> object:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _networks(value: object) -> object:
    words = _words(value)
    if not isinstance(words, tuple):
        return words
    return tuple(ip_network(word) if isinstance(word, str) else word for word in words)


def _ports(value: object) -> object:
    words = _words(value)
    if not isinstance(words, tuple):
        return words
    return tuple(read_ports(word) if isinstance(word, str) else word for word in words)


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
Ports = Annotated[tuple[range, ...], BeforeValidator(_ports)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_words)]

Seconds = Annotated[int, Field(ge=0)]
LeastMinute = Annotated[int, Field(ge=MIN_SECONDS)]
"""Seconds that a client may name, too."""
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
