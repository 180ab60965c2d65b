"""Messages of a queue, with delays and the claims of several."""

from __future__ import annotations

from api.answers import Answer
from api.requests import Call
from api.resources import Body, Parameter
from api.v2 import schemas
from api.zaqar import messages
from api.zaqar.bodies import read_messages
from api.zaqar.events import with_events
from api.zaqar.examples import CLAIM_ID
from api.zaqar.query import Query
from api.zaqar.schemas import Attribute
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.service import Service


async def post(service: Service, call: Call) -> Answer:
    settings = service.settings
    body = await call.body(settings.max_messages_post_size)
    posted = read_messages(body, settings, call.warn)
    return messages.stored(call, await messages.store(service, call, body, posted))


async def browse(service: Service, call: Call) -> Answer:
    return await messages.browse(service, call, knows_delays=True)


async def delete_several(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    claim_ids = query.words("claim_ids")
    if not service.settings.message_delete_with_claim_id:
        return await messages.delete_several(service, call, query, claim_ids=None)
    if query.words("ids") and not claim_ids:
        raise ValidationFailed("claim_ids is required to delete messages by ids on this server")
    if query.text("pop") is not None and claim_ids:
        raise ValidationFailed("claim_ids goes with ids, not with pop")
    return await messages.delete_several(service, call, query, claim_ids=claim_ids)


NOT_BEFORE = Parameter(
    "not_before",
    "Show the instant `not_before` of messages that were posted with one, until it comes.",
    bool,
    False,
)

LISTING = messages.browsing(
    "/v2",
    browse,
    Parameter("include_delayed", "Include messages still delayed.", bool, False),
    NOT_BEFORE,
)

RESOURCES = messages.resources(
    "/v2",
    post=messages.posting(
        "/v2",
        post,
        "`ttl` and `delay` are seconds; pages and claims hide a message until its delay is over, or until the instant "
        "`not_before` (ISO 8601 with its zone, at most 366 days ahead) comes, from which its `ttl` then counts. `attributes` "
        "are at most ten typed values, by which subscriptions filter messages.",
        Body(
            schemas.Post(
                [
                    schemas.NewMessage(
                        {"event": "hello"},
                        ttl=300,
                        delay=0,
                        attributes={"colour": Attribute("String", "blue"), "size": 3},
                    )
                ]
            )
        ),
    ),
    browse=with_events(LISTING),
    delete_several=messages.deleting_several(
        "/v2",
        delete_several,
        Parameter(
            "claim_ids",
            "The claims of claimed messages, on servers that ask for them.",
            list[str],
            [CLAIM_ID],
        ),
    ),
)
