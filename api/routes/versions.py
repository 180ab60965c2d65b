"""The versions of the API."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Literal

import msgspec

from api.answers import Answer
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from zaqar_notify.service import Service
from zaqar_notify.settings import VERSIONS


class MediaType(msgspec.Struct):
    base: str
    type: str


class VersionLink(msgspec.Struct):
    href: str
    rel: Literal["self"] = "self"


class Version(msgspec.Struct, rename={"media_types": "media-types"}):
    id: str
    status: str
    updated: str
    media_types: list[MediaType]
    links: list[VersionLink]


class Versions(msgspec.Struct):
    """The versions of the API."""

    versions: list[Version]


def versions(prefix: str, names: Collection[str]) -> Versions:
    """The document of these versions, the oldest first; every link begins with `prefix`."""
    return Versions([_version(prefix, name) for name in _UPDATED if name in names])


def _version(prefix: str, name: str) -> Version:
    media_type = f"application/vnd.openstack.messaging-{name.replace('.', '_')}+json"
    return Version(
        name[1:],
        "CURRENT" if name == "v2" else "DEPRECATED",
        _UPDATED[name],
        [MediaType("application/json", media_type)],
        [VersionLink(f"{prefix}/{name}/")],
    )


_UPDATED = {"v1": "2014-9-11T17:47:05Z", "v1.1": "2016-7-29T02:22:47Z", "v2": "2014-9-24T04:06:47Z"}
"""Zaqar's versions, and when it last changed them by its own account."""


async def show_versions(service: Service, call: Call) -> Answer:
    shown = versions(call.prefix, service.settings.versions)
    return Answer(HTTPStatus.MULTIPLE_CHOICES, msgspec.json.encode(shown))


RESOURCES = (
    Resource(
        "/",
        {
            "GET": Operation(
                show_versions,
                UNGUARDED,
                "List the versions",
                {300: Reply("The versions", versions("", VERSIONS))},
            )
        },
        is_open=True,
    ),
)
