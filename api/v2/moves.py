"""Moves of queues to other pools. The routes are there with `ZAQAR_ADMIN_MODE`."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from api.answers import NO_CONTENT, Answer, document
from api.documents import read_document
from api.requests import Call
from api.resources import Body, Operation, Reply, Resource
from api.zaqar import schemas
from zaqar_notify.errors import MoveDoesNotExist, PoolDoesNotExist, QueueMoves
from zaqar_notify.models import JsonObject, QueueRef
from zaqar_notify.pools import ShownMove, cancel_move, move_of_id, move_queue, moves
from zaqar_notify.service import Service

MAX_BODY = 4096
Name = Annotated[str, Meta(max_length=255)]


class NewMove(Struct, forbid_unknown_fields=True):
    """A queue of a project, and the pool that it is to be on."""

    project: Name
    queue: Name
    pool: Name


class MoveDocument(schemas.Exact):
    """A move, and how far it is."""

    id: str
    project: str
    queue: str
    pool: str
    state: str
    source: str
    copied: int
    total: int
    held_up_ms: list[int]
    reason: str
    asked_at: str
    href: str


class MovePage(schemas.Exact):
    """Moves of the last days, and those under way."""

    moves: list[MoveDocument]


_new_move = msgspec.json.Decoder(NewMove)


async def post(service: Service, call: Call) -> Answer:
    sent = read_document(await call.body(MAX_BODY), _new_move)
    ref = QueueRef(sent.project, sent.queue)
    shown = await move_queue(service.storage, ref, sent.pool, now=service.clock.now())
    return msgspec.structs.replace(
        document(_document(shown, f"{call.href}/{shown.id}")), status=HTTPStatus.ACCEPTED
    )


async def list_moves(service: Service, call: Call) -> Answer:
    found = await moves(service.storage, now=service.clock.now())
    return document({"moves": [_document(one, f"{call.href}/{one.id}") for one in found]})


async def show(service: Service, call: Call) -> Answer:
    shown = await move_of_id(service.storage, call.names["move_id"], now=service.clock.now())
    return document(_document(shown, call.href))


async def delete(service: Service, call: Call) -> Answer:
    now = service.clock.now()
    shown = await move_of_id(service.storage, call.names["move_id"], now=now)
    if not shown.state.is_over:
        await cancel_move(service.storage, QueueRef(shown.project, shown.queue), now=now)
    return NO_CONTENT


def _document(shown: ShownMove, href: str) -> JsonObject:
    return {
        **msgspec.structs.asdict(shown),
        "state": shown.state.value,
        "asked_at": shown.asked_at.astimezone(UTC).isoformat(timespec="seconds"),
        "href": href,
    }


_EXAMPLE = MoveDocument(
    *("6e8f5c2b4a3d4f0e9b7a1c2d3e4f5a6b", "shop", "orders", "db2", "copying", "default"),
    copied=12300,
    total=20000,
    held_up_ms=[],
    reason="",
    asked_at=datetime(2030, 1, 1, tzinfo=UTC).isoformat(),
    href="/v2/moves/6e8f5c2b4a3d4f0e9b7a1c2d3e4f5a6b",
)

RESOURCES = (
    Resource(
        "/v2/moves",
        {
            "GET": Operation(
                list_moves,
                "moves:get_all",
                "List moves",
                {
                    200: Reply(
                        "Those that ended in the last days, then those under way",
                        MovePage([_EXAMPLE]),
                    )
                },
            ),
            "POST": Operation(
                post,
                "moves:create",
                "Move a queue",
                {202: Reply("The move, which goes on by itself", _EXAMPLE)},
                description="Asked for again, it is the move that is under way. A worker makes the moves, one after the other.",
                body=Body(NewMove("shop", "orders", "db2")),
                refuses=(PoolDoesNotExist("db2"), QueueMoves("orders", "db3")),
            ),
        },
        is_signable=False,
    ),
    Resource(
        "/v2/moves/{move_id}",
        {
            "GET": Operation(
                show,
                "moves:get",
                "Show a move",
                {200: Reply("The move", _EXAMPLE)},
                refuses=(MoveDoesNotExist("6e8f5c2b"),),
            ),
            "DELETE": Operation(
                delete,
                "moves:delete",
                "Cancel a move",
                {204: Reply("It is given up, unless the queue is on the other pool by then")},
                refuses=(MoveDoesNotExist("6e8f5c2b"),),
            ),
        },
        is_signable=False,
    ),
)
