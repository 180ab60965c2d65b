"""Pools: register, show, list, change, remove. The routes are there with `ZAQAR_ADMIN_MODE`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

from api.answers import NO_CONTENT, Answer, at, document
from api.documents import Reader, read_document
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.zaqar import schemas
from api.zaqar.links import next_links
from api.zaqar.query import Query
from zaqar_notify.errors import (
    BodyInvalid,
    PoolDoesNotExist,
    PoolExists,
    PoolInUse,
    PoolRefused,
)
from zaqar_notify.models import FlavorRef, JsonObject, Pool, undisclosed
from zaqar_notify.pools import (
    AskedPool,
    PoolChange,
    change_pool,
    pool_of,
    pools_after,
    register_pool,
    remove_pool,
    shown_uri,
)
from zaqar_notify.rules.jsontext import check_depth
from zaqar_notify.rules.limits import check_limit
from zaqar_notify.rules.unread import warn_of_fields
from zaqar_notify.rules.uris import masked_document
from zaqar_notify.service import Service

MAX_PER_PAGE = 20
MAX_BODY = 16384
"""Bytes of a pool; its options fit in."""

Uri = Annotated[str, Meta(max_length=255)]
Weight = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Name = Annotated[str, Meta(max_length=255)]


class NewPool(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A store that is to take queues, and its share of new ones."""

    uri: Uri
    weight: Weight
    flavor: Name | None = None
    options: dict[str, Any] = {}

    __repr__ = undisclosed


class ChangedPool(Struct, omit_defaults=True):
    """New values of a pool; others stay. A flavor of "" takes the pool out of its flavor."""

    uri: Uri | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    flavor: Name | UnsetType | None = UNSET
    options: dict[str, Any] | UnsetType = UNSET

    __repr__ = undisclosed


class _StrictChange(ChangedPool, forbid_unknown_fields=True):
    """Without unknown fields."""


class ShownPool(schemas.Exact):
    """A pool; its URI has no password."""

    name: str
    flavor: str | None
    uri: str
    weight: int
    href: str
    options: dict[str, Any] | UnsetType = UNSET


class PoolPage(schemas.Exact):
    """Pools by name, and where the page after them is."""

    pools: list[ShownPool]
    links: list[schemas.Link]


_new_pool = msgspec.json.Decoder(NewPool)
_change = Reader(ChangedPool, strict=_StrictChange)


async def put(service: Service, call: Call) -> Answer:
    sent = read_document(await call.body(MAX_BODY), _new_pool)
    check_depth(sent.options)
    asked = AskedPool(sent.uri, sent.weight, _flavor(call, sent.flavor), sent.options)
    name, now = call.names["pool_name"], service.clock.now()
    await register_pool(service.storage, service.settings, name, asked, now=now)
    return at(HTTPStatus.CREATED, call.href)


async def show(service: Service, call: Call) -> Answer:
    detailed = Query(call.query_string).boolean("detailed")
    pool = await pool_of(service.storage, call.names["pool_name"])
    return document(_shown(pool, call.href, detailed=detailed))


async def patch(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_BODY)
    sent = _read_change(body, call)
    flavor = sent.flavor if sent.flavor is UNSET else _flavor(call, sent.flavor)
    change = PoolChange(sent.uri, sent.weight, flavor, sent.options)
    name = call.names["pool_name"]
    pool = await change_pool(service.storage, service.settings, name, change)
    return document(_shown(pool, call.href))


async def delete(service: Service, call: Call) -> Answer:
    await remove_pool(service.storage, call.names["pool_name"])
    return NO_CONTENT


async def list_pools(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    detailed = query.boolean("detailed")
    limit = check_limit(query.integer("limit"), most=MAX_PER_PAGE, unit="pools")
    found = await pools_after(service.storage, query.text("marker"), limit=limit)
    links = next_links(call.href, query.sent, found[-1].name if found else None)
    page = {
        "links": orjson.Fragment(links),
        "pools": [_shown(pool, f"{call.href}/{pool.name}", detailed=detailed) for pool in found],
    }
    asked = call.query_string and b"?" + call.query_string
    return msgspec.structs.replace(
        document(page), headers=((b"Content-Location", call.href.encode("ascii") + asked),)
    )


def _read_change(body: bytes, call: Call) -> ChangedPool:
    def warn_of_unread() -> None:
        fields = orjson.loads(body)
        warn_of_fields(fields, ChangedPool.__struct_fields__, where="field", warn=call.warn)

    sent = _change.read(body, on_unread=warn_of_unread)
    if all(getattr(sent, field) is UNSET for field in ChangedPool.__struct_fields__):
        raise BodyInvalid("One of uri, weight, flavor or options needs to be specified")
    if sent.options is not UNSET:
        check_depth(sent.options)
    return sent


def _flavor(call: Call, name: str | UnsetType | None) -> FlavorRef | None:
    return FlavorRef(call.project, name) if name else None


def _shown(pool: Pool, href: str, *, detailed: bool = False) -> JsonObject:
    shown: JsonObject = {
        "name": pool.name,
        "flavor": None if pool.flavor is None else pool.flavor.name,
        "uri": shown_uri(pool),
        "weight": pool.weight,
        "href": href,
    }
    return shown | {"options": masked_document(pool.options or {})} if detailed else shown


_URI = "mongodb://zaqar@db2.example.org/zaqar?replicaSet=rs"
_EXAMPLE = ShownPool("db2", "durable", _URI, 100, "/v2/pools/db2")
_DETAILED = Parameter("detailed", "Include the options.", bool, False)

RESOURCES = (
    Resource(
        "/v2/pools",
        {
            "GET": Operation(
                list_pools,
                "pools:get_all",
                "List pools",
                {
                    200: Reply(
                        "A page, by name",
                        PoolPage([_EXAMPLE], [schemas.Link("next", "/v2/pools?marker=db2")]),
                    )
                },
                query=(
                    Parameter("marker", "Begin after this name.", str, "db2"),
                    Parameter(
                        "limit", f"Pools in the page, 1 to {MAX_PER_PAGE}.", schemas.Limit, 10
                    ),
                    _DETAILED,
                ),
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/pools/{pool_name}",
        {
            "PUT": Operation(
                put,
                "pools:create",
                "Register a pool",
                {201: Reply("Registered, or replaced", location="/v2/pools/db2")},
                description="The store is opened before the answer. Processes give the pool new queues from ten "
                "seconds later on. A flavor is one of the project in X-Project-ID, and need not exist yet.",
                body=Body(NewPool(uri=_URI, weight=100, flavor="durable")),
                refuses=(PoolRefused("Its store has other capabilities"), PoolExists("db1")),
            ),
            "GET": Operation(
                show,
                "pools:get",
                "Show a pool",
                {200: Reply("The pool", _EXAMPLE)},
                query=(_DETAILED,),
                refuses=(PoolDoesNotExist("db2"),),
            ),
            "PATCH": Operation(
                patch,
                "pools:update",
                "Change a pool",
                {200: Reply("The pool as it is now", _EXAMPLE)},
                description="A URI with the mask in the place of its password keeps the stored URI.",
                body=Body(ChangedPool(weight=0)),
                refuses=(
                    PoolRefused("Its store has other capabilities"),
                    PoolDoesNotExist("db2"),
                    PoolExists("db1"),
                ),
            ),
            "DELETE": Operation(
                delete,
                "pools:delete",
                "Remove a pool",
                {204: Reply("Removed, or there was none; its store stays as it is")},
                refuses=(PoolInUse("The pool has 3 queues: move or delete them"),),
            ),
        },
        is_signable=False,
    ),
)
