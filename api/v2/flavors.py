"""Flavors: make, show, list, change, remove. The routes are there with `ZAQAR_ADMIN_MODE`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from api.answers import NO_CONTENT, Answer, at, document
from api.documents import Reader, read_document
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.zaqar import schemas
from api.zaqar.links import next_links
from api.zaqar.query import Query
from zaqar_notify.errors import FlavorDoesNotExist, FlavorNotChanged, FlavorRefused
from zaqar_notify.models import FlavorRef, JsonObject
from zaqar_notify.pools import (
    FlavorView,
    change_flavor,
    flavor_of,
    flavors_of,
    make_flavor,
    remove_flavor,
)
from zaqar_notify.rules.limits import check_limit
from zaqar_notify.rules.unread import warn_of_fields
from zaqar_notify.service import Service

MAX_PER_PAGE = 20
MAX_BODY = 65536
"""Bytes; the names of all pools that there can be fit in."""


class NewFlavor(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The pools of a flavor. `capabilities` are ignored: they are read from the pools."""

    pool_list: list[str]
    capabilities: dict[str, Any] = {}


class ChangedFlavor(Struct):
    """The pools that the flavor is to have instead of its own."""

    pool_list: list[str]


class _StrictChange(ChangedFlavor, forbid_unknown_fields=True):
    """Without unknown fields, but for the one that is ignored."""

    capabilities: Any = None


class ShownFlavor(schemas.Exact):
    """A flavor with its pools, and the promises of their stores."""

    name: str
    capabilities: list[str]
    pool_list: list[str]
    href: str


class ListedFlavor(schemas.Exact):
    """A flavor in a listing; without pools, there is no list of them."""

    name: str
    href: str
    pool_list: list[str] | msgspec.UnsetType = msgspec.UNSET
    capabilities: list[str] | msgspec.UnsetType = msgspec.UNSET


class FlavorPage(schemas.Exact):
    """Flavors by name, and where the page after them is."""

    flavors: list[ListedFlavor]
    links: list[schemas.Link]


_new_flavor = msgspec.json.Decoder(NewFlavor)
_change = Reader(ChangedFlavor, strict=_StrictChange)


async def put(service: Service, call: Call) -> Answer:
    sent = read_document(await call.body(MAX_BODY), _new_flavor)
    await make_flavor(service.storage, _ref(call), sent.pool_list)
    return at(HTTPStatus.CREATED, call.href)


async def show(service: Service, call: Call) -> Answer:
    return _whole(await flavor_of(service.storage, _ref(call)), call)


async def patch(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_BODY)

    def warn_of_unread() -> None:
        fields = orjson.loads(body)
        warn_of_fields(fields, _StrictChange.__struct_fields__, where="field", warn=call.warn)

    sent = _change.read(body, on_unread=warn_of_unread)
    return _whole(await change_flavor(service.storage, _ref(call), sent.pool_list), call)


async def delete(service: Service, call: Call) -> Answer:
    await remove_flavor(service.storage, _ref(call))
    return NO_CONTENT


async def list_flavors(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    detailed = query.boolean("detailed")
    limit = check_limit(query.integer("limit"), most=MAX_PER_PAGE, unit="flavors")
    found = await flavors_of(service.storage, call.project, query.text("marker"), limit=limit)
    links = next_links(call.href, query.sent, found[-1].ref.name if found else None)
    listed = [_listed(flavor, call.href, detailed=detailed) for flavor in found]
    return document({"links": orjson.Fragment(links), "flavors": listed})


def _ref(call: Call) -> FlavorRef:
    return FlavorRef(call.project, call.names["flavor_name"])


def _whole(flavor: FlavorView, call: Call) -> Answer:
    return document(
        {
            "name": flavor.ref.name,
            "capabilities": flavor.capabilities,
            "pool_list": flavor.pools,
            "href": call.href,
        }
    )


def _listed(flavor: FlavorView, href: str, *, detailed: bool) -> JsonObject:
    name = flavor.ref.name
    listed: JsonObject = {"name": name, "href": f"{href}/{name}"}
    if flavor.pools:
        listed["pool_list"] = flavor.pools
    return listed | {"capabilities": flavor.capabilities} if detailed else listed


_CAPABILITIES = ["FIFO", "CLAIMS", "DURABILITY", "AOD", "HIGH_THROUGHPUT"]
_EXAMPLE = ShownFlavor("durable", _CAPABILITIES, ["db1", "db2"], "/v2/flavors/durable")

RESOURCES = (
    Resource(
        "/v2/flavors",
        {
            "GET": Operation(
                list_flavors,
                "flavors:get_all",
                "List flavors",
                {
                    200: Reply(
                        "A page, by name",
                        FlavorPage(
                            [ListedFlavor("durable", _EXAMPLE.href, ["db1", "db2"])],
                            [schemas.Link("next", "/v2/flavors?marker=durable")],
                        ),
                    )
                },
                query=(
                    Parameter("marker", "Begin after this name.", str, "durable"),
                    Parameter(
                        "limit", f"Flavors in the page, 1 to {MAX_PER_PAGE}.", schemas.Limit, 10
                    ),
                    Parameter("detailed", "Include the capabilities.", bool, False),
                ),
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/flavors/{flavor_name}",
        {
            "PUT": Operation(
                put,
                "flavors:create",
                "Make a flavor",
                {201: Reply("Made, or replaced", location=_EXAMPLE.href)},
                description="Its pools are of no other flavor then.",
                body=Body(NewFlavor(["db1", "db2"])),
                refuses=(FlavorRefused("durable", "Pool db2 does not exist"),),
            ),
            "GET": Operation(
                show,
                "flavors:get",
                "Show a flavor",
                {200: Reply("The flavor", _EXAMPLE)},
                refuses=(FlavorDoesNotExist("durable"),),
            ),
            "PATCH": Operation(
                patch,
                "flavors:update",
                "Change a flavor's pools",
                {200: Reply("The flavor as it is now", _EXAMPLE)},
                description="Pools that are no longer listed are of no flavor then.",
                body=Body(ChangedFlavor(["db1", "db3"])),
                refuses=(
                    FlavorNotChanged("durable", "Pool db3 does not exist"),
                    FlavorDoesNotExist("durable"),
                ),
            ),
            "DELETE": Operation(
                delete,
                "flavors:delete",
                "Delete a flavor",
                {204: Reply("Deleted, or there was none; its pools are of no flavor then")},
            ),
        },
        is_signable=False,
    ),
)
