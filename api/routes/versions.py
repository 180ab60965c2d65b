"""The versions of the API."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

import msgspec

from api.answers import Answer
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from zaqar_notify.service import Service


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


def versions(prefix: str) -> Versions:
    """The document of versions; every link begins with `prefix`."""
    media_type = MediaType("application/json", "application/vnd.openstack.messaging-v2+json")
    links = [VersionLink(f"{prefix}/v2/")]
    return Versions([Version("2", "CURRENT", "2014-9-24T04:06:47Z", [media_type], links)])


async def show_versions(service: Service, call: Call) -> Answer:
    return Answer(HTTPStatus.MULTIPLE_CHOICES, msgspec.json.encode(versions(call.prefix)))


RESOURCES = (
    Resource(
        "/",
        {
            "GET": Operation(
                show_versions,
                UNGUARDED,
                "List the versions",
                {300: Reply("The versions", versions(""))},
            )
        },
        is_open=True,
    ),
)
