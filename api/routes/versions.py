"""What versions of the API there are."""

from __future__ import annotations

from http import HTTPStatus

from api.answers import Answer, document
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from zaqar_notify.models import Document
from zaqar_notify.service import Service


def versions(prefix: str) -> Document:
    """The versions; every link begins with `prefix`."""
    return {
        "versions": [
            {
                "id": "2",
                "status": "CURRENT",
                "updated": "2014-9-24T04:06:47Z",
                "media-types": [
                    {
                        "base": "application/json",
                        "type": "application/vnd.openstack.messaging-v2+json",
                    }
                ],
                "links": [{"href": f"{prefix}/v2/", "rel": "self"}],
            }
        ]
    }


async def show_versions(service: Service, call: Call) -> Answer:
    return document(versions(call.prefix), HTTPStatus.MULTIPLE_CHOICES)


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
