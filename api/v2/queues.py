"""Queues: show, list, change, purge, share; `api.zaqar.queues` has the rest."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from functools import partial

from api.answers import NO_CONTENT, Answer, document
from api.refusals import UnsupportedPatchType
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.v2 import schemas
from api.v2.bodies import read_resource_types
from api.v2.json_patch import PATCH_TYPE, read_patch
from api.v2.share import read_share
from api.zaqar import queues as common
from api.zaqar.links import queue_href
from api.zaqar.query import Query
from api.zaqar.queues import METADATA
from api.zaqar.schemas import Link
from zaqar_notify import queues
from zaqar_notify.auth.confinement import check_named_queues
from zaqar_notify.errors import BodyInvalid, MetadataConflict, QueueDoesNotExist, ValidationFailed
from zaqar_notify.metadata import shown, warn_of_combinations
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.jsontext import MAX_INTEGER, MIN_INTEGER
from zaqar_notify.rules.signing import wire_instant
from zaqar_notify.service import Service

MAX_FILTERS = 20
MAX_SMALL_BODY = 65536
"""Bytes of a purge or share; a few words fit many times over."""

LIST_PARAMETERS = frozenset(("marker", "limit", "detailed", "name", "with_count"))
_INTEGER = re.compile(r"-?[0-9]{1,19}")


async def show(service: Service, call: Call) -> Answer:
    return document(await queues.show(service, call.ref))


async def patch(service: Service, call: Call) -> Answer:
    try:
        body = await call.body(service.settings.max_queue_metadata)
    except ValidationFailed as error:
        raise BodyInvalid(str(error)) from error
    operations = read_patch(body, call.header(b"content-type"))
    for each in operations:
        check_named_queues(call.caller, {each.key: each.value})
    metadata = await queues.patch(service, call.ref, operations)
    common.warn_of_unread(
        call, {each.key: each.value for each in operations if each.op != "remove"}
    )
    warn_of_combinations(call.ref, metadata, service.settings, warn=call.warn)
    return document(shown(metadata, service.settings, of_topic=call.ref.is_topic))


async def list_queues(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    page = await common.page(
        service,
        call,
        query,
        metadata_of=partial(shown, settings=service.settings),
        name_contains=query.text("name") or "",
        metadata_equals=metadata_filters(query.sent, LIST_PARAMETERS),
        with_count=query.boolean("with_count"),
    )
    return document(page)


async def purge(service: Service, call: Call) -> Answer:
    kinds = read_resource_types(await call.body(MAX_SMALL_BODY))
    await queues.purge(
        service, call.ref, messages="messages" in kinds, subscriptions="subscriptions" in kinds
    )
    return NO_CONTENT


async def share(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_SMALL_BODY)
    asked = read_share(
        body,
        queue_href=queue_href(call),
        of_topic=call.ref.is_topic,
        now=service.clock.host_now(),
        max_seconds=service.settings.signed_url_max_seconds,
    )
    signature = await queues.share(
        service, call.ref, paths=asked.paths, methods=asked.methods, expires_at=asked.expires_at
    )
    return document(
        {
            "project": call.project,
            "methods": asked.methods,
            "expires": wire_instant(asked.expires_at),
            "paths": asked.paths,
            "signature": signature,
        }
    )


async def revoke_shares(service: Service, call: Call) -> Answer:
    await queues.revoke_shares(service, call.ref)
    return NO_CONTENT


def metadata_filters(sent: Iterable[tuple[str, str]], known: Container[str]) -> JsonObject:
    """Filters by metadata: the unknown parameters. Several values of one are alternatives."""
    filters: dict[str, list[object]] = {}
    for name, text in sent:
        if name not in known:
            filters.setdefault(name, []).extend(_value(part) for part in text.split(","))
    if sum(map(len, filters.values())) > MAX_FILTERS:
        raise ValidationFailed(f"A list takes at most {MAX_FILTERS} metadata filters")
    return dict(filters)


def _value(text: str) -> object:
    """The value of a filter. Text that is an integer is compared only as an integer."""
    if _INTEGER.fullmatch(text) and MIN_INTEGER <= int(text) <= MAX_INTEGER:
        return int(text)
    return text


LIST_QUERY = (
    *common.PAGE,
    Parameter("name", "Only those with this text in their name.", str, "dem"),
)

RESOURCES = (
    Resource(
        "/v2/queues",
        {
            "GET": Operation(
                list_queues,
                "queues:get_all",
                "List queues",
                {
                    200: Reply(
                        "A page, by name",
                        schemas.QueuePage(
                            [schemas.Queue("demo", "/v2/queues/demo", METADATA)],
                            [Link("next", "/v2/queues?detailed=true&marker=demo")],
                            count=1,
                        ),
                    )
                },
                description="Any other parameter is a filter: queues whose metadata has that "
                "top-level key with that value. Several must all match; several values of one are "
                "alternatives.",
                query=(
                    *LIST_QUERY,
                    Parameter(
                        "with_count",
                        "Say how many queues the filters let through in all.",
                        bool,
                        False,
                    ),
                ),
            )
        },
    ),
    Resource(
        "/v2/queues/{queue_name}",
        {
            "PUT": common.creating("/v2"),
            "GET": Operation(
                show,
                "queues:get",
                "Show a queue's metadata",
                {200: Reply("The metadata, with defaults filled in", METADATA)},
            ),
            "PATCH": Operation(
                patch,
                "queues:update",
                "Change a queue's metadata",
                {200: Reply("The new metadata", METADATA)},
                description=f"The Content-Type must be exactly `{PATCH_TYPE}`.",
                body=Body(
                    [schemas.PatchOperation("replace", "/metadata/_default_message_ttl", 600)],
                    content_type=PATCH_TYPE,
                ),
                refuses=(
                    QueueDoesNotExist("demo"),
                    MetadataConflict("_default_message_ttl"),
                    UnsupportedPatchType(PATCH_TYPE),
                ),
            ),
            "DELETE": common.DELETE,
        },
    ),
    common.stats_resource("/v2"),
    Resource(
        "/v2/queues/{queue_name}/purge",
        {
            "POST": Operation(
                purge,
                "queues:purge",
                "Remove a queue's messages, subscriptions, or both",
                {204: Reply("Removed; the queue and its metadata stay")},
                body=Body(schemas.Purge(["messages", "subscriptions"]), required=False),
            )
        },
    ),
    Resource(
        "/v2/queues/{queue_name}/share",
        {
            "POST": Operation(
                share,
                "queues:share",
                "Make a pre-signed URL",
                {
                    200: Reply(
                        "The values that its holder sends as URL-Signature, URL-Methods, URL-Paths, URL-Expires "
                        "and X-Project-ID",
                        schemas.Shared(
                            project="demo",
                            methods=["GET"],
                            expires="2030-01-01T00:00:00",
                            paths=["/v2/queues/demo/messages"],
                            signature="a9a2da75441943d40a8956729e3f92cc366fe53a97c16cf743767be7d3a7399b",
                        ),
                    )
                },
                body=Body(schemas.Share(["messages"], ["GET"], "2030-01-01T00:00:00")),
            ),
            "DELETE": Operation(
                revoke_shares,
                "queues:share",
                "Revoke a queue's pre-signed URLs",
                {204: Reply("All that were made before are refused from now on")},
                description="Another process may take them for 3 seconds more. Links that confirm a "
                "subscription are not revoked.",
            ),
        },
    ),
)
