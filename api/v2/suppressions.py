"""Addresses whose owners unsubscribed from a project's mails."""

from __future__ import annotations

import orjson

from api.answers import NO_CONTENT, Answer, document
from api.requests import Call
from api.resources import Operation, Parameter, Reply, Resource
from api.v2 import schemas
from api.v2.shapes import suppression
from api.zaqar.examples import SUBSCRIPTION_ID
from api.zaqar.links import next_links
from api.zaqar.query import Query
from api.zaqar.schemas import Limit, Link
from zaqar_notify import subscriptions
from zaqar_notify.auth.confinement import check_all_queues
from zaqar_notify.service import Service


async def list_suppressions(service: Service, call: Call) -> Answer:
    check_all_queues(call.caller)
    query = Query(call.query_string)
    found = await subscriptions.list_suppressions(
        service,
        call.project,
        subscriber=query.text("subscriber"),
        marker=query.text("marker"),
        limit=query.integer("limit"),
    )
    links = next_links(call.href, query.sent, found[-1].id if found else None)
    return document(
        {
            "suppressions": [suppression(one, service.clock) for one in found],
            "links": orjson.Fragment(links),
        }
    )


async def remove(service: Service, call: Call) -> Answer:
    check_all_queues(call.caller)
    await subscriptions.remove_suppression(service, call.project, call.names["suppression_id"])
    return NO_CONTENT


_PATH = "/v2/suppressions"
_ID = "5d41402abc4b2a76b9719d911017c592"
_EXAMPLE = schemas.Suppression(
    id=_ID,
    subscriber="mailto:@example.org",
    source="demo",
    subscription_id=SUBSCRIPTION_ID,
    suppressed_at="2026-11-30T19:17:57Z",
)

RESOURCES = (
    Resource(
        _PATH,
        {
            "GET": Operation(
                list_suppressions,
                "suppressions:get_all",
                "List the addresses that have unsubscribed",
                {
                    200: Reply(
                        "A page, in order of id",
                        schemas.SuppressionPage(
                            [_EXAMPLE],
                            [Link("next", f"{_PATH}?marker={_ID}")],
                        ),
                    )
                },
                description="They get nothing from any subscription of the project. The service keeps a digest of an "
                "address, and shows its domain.",
                query=(
                    Parameter(
                        "subscriber",
                        "Only of this subscriber.",
                        str,
                        "mailto:user@example.org",
                    ),
                    Parameter("marker", "Begin after this id.", str, _ID),
                    Parameter("limit", "Suppressions in the page, 1 to 100.", Limit, 10),
                ),
            )
        },
        is_signable=False,
    ),
    Resource(
        f"{_PATH}/{{suppression_id}}",
        {
            "DELETE": Operation(
                remove,
                "suppressions:delete",
                "Let an address that has unsubscribed get mails again",
                {204: Reply("Removed, or there was none")},
                description="Its owner has to have asked for that.",
            )
        },
        is_signable=False,
    ),
)
