"""The addresses that tokens of trusts may be sent to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from urllib.parse import unquote

import msgspec
from yarl import URL

from zaqar_notify.auth.keystone.connection import KeystoneConnection
from zaqar_notify.auth.keystone.own_token import OwnToken
from zaqar_notify.auth.remembered import Remembered
from zaqar_notify.errors import KeystoneUnavailable

CATALOGUE_SECONDS = 300.0
"""How long the catalogue is believed without asking again."""

_PATH = re.compile(r"[^:/?#]+://[^/?#]*([^?#]*)", re.DOTALL)


class Place(msgspec.Struct, frozen=True):
    """The beginning of addresses: a host's port, and the segments of a path."""

    scheme: str
    host: str
    port: int
    segments: tuple[str, ...]

    def holds(self, other: Place) -> bool:
        """Whether the other one begins with this one."""
        own, its = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return own[:3] == its[:3] and other.segments[: len(self.segments)] == self.segments


def place_of(url: str) -> Place | None:
    """The place that a URL names, to its last segment; None: it can't be read, or a receiver could read another."""
    found = _PATH.match(url)
    try:
        parts = URL(url)
        host, port = parts.raw_host, parts.port
    except (ValueError, IndexError):
        return None
    if not found or not host or not port:
        return None
    segments = tuple(segment for segment in found[1].split("/") if segment)
    # A receiver would climb up from the place, once or after decoding.
    if any(_climbs(segment) for segment in segments):
        return None
    return Place(parts.scheme, host.rstrip("."), port, segments)


class Targets:
    """The places in the catalogue of Keystone, and those of the operator's list. Belongs to one event loop."""

    def __init__(
        self, connection: KeystoneConnection, own_token: OwnToken, *, allowed: Sequence[str]
    ) -> None:
        self._connection = connection
        self._own_token = own_token
        self._allowed = [place for url in allowed if (place := place_of(url))]
        self._catalogue: Remembered[str, tuple[Place, ...]] = Remembered(
            self._read, seconds=CATALOGUE_SECONDS, unknown_seconds=0, most=1
        )

    async def permits(self, url: str) -> bool:
        """Whether the address begins with a place of the list or of the catalogue.

        Raises:
            KeystoneUnavailable: The catalogue is not known, and Keystone gives no answer.
        """
        wanted = place_of(url)
        if wanted is None:
            return False
        if _any_holds(self._allowed, wanted):
            return True
        return _any_holds(await self._catalogue.get("") or (), wanted)

    async def _read(self, _: str) -> tuple[Place, ...]:
        own = await self._own_token.get()
        answer = await self._connection.send("GET", "/auth/catalog", token=own.token)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self._own_token.forget(own.token)
        try:
            services = msgspec.convert(answer.document.get("catalog"), list[_Service])
        except msgspec.ValidationError as error:
            raise KeystoneUnavailable(
                f"Keystone shows no catalogue: HTTP {answer.status}"
            ) from error
        urls = (endpoint.url for service in services for endpoint in service.endpoints)
        return tuple(_places(urls, own.project))


def _places(urls: Iterable[str], own_project: str | None) -> Iterable[Place]:
    """The places of endpoints. Those that end in the service's own project stand for every project's."""
    for url in urls:
        place = place_of(url)
        if place is None:
            continue
        segments = place.segments
        for number, segment in enumerate(segments):
            if own_project and own_project in segment:
                segments = segments[:number]
                break
        yield msgspec.structs.replace(place, segments=segments)


def _any_holds(places: Iterable[Place], wanted: Place) -> bool:
    return any(place.holds(wanted) for place in places)


def _climbs(segment: str) -> bool:
    while (decoded := unquote(segment)) != segment:
        segment = decoded
    # Some receivers cut parameters off a segment before they look at its dots.
    return segment.partition(";")[0] in (".", "..") or "/" in segment or "\\" in segment


class _Endpoint(msgspec.Struct):
    url: str


class _Service(msgspec.Struct):
    endpoints: list[_Endpoint] = []
