"""`zaqar-notify queue move` and `rebalance`: queues move to other pools while they are in use."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import msgspec
import typer

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import Json, Queue, ServiceAddress
from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.errors import StartRefused
from zaqar_notify.models import JsonObject, QueueRef
from zaqar_notify.operations.admin import Command, Site, Tell
from zaqar_notify.pools import (
    Proposal,
    ShownMove,
    cancel_move,
    move_of_id,
    move_queue,
    moves,
    proposals,
)

HEADINGS = ("QUEUE", "PROJECT", "FROM", "TO", "STATE", "COPIED", "HELD UP", "REASON")
DEFAULT_PROJECT = "default"
LOOK_SECONDS = 1.0
"""Between two lines that say how far a move is."""


class Asked(msgspec.Struct):
    """A queue that is to be on a pool; without a pool its move is cancelled."""

    project: str
    queue: str
    pool: str | None
    follows: bool


class Wanted(msgspec.Struct):
    """Whether the moves that are proposed are made."""

    makes: bool


async def start(site: Site, asked: Asked, tell: Tell) -> ShownMove:
    """Have the queue moved, and tell how far that is until it is over; or have its move cancelled."""
    ref = QueueRef(asked.project, asked.queue)
    if asked.pool is None:
        return await cancel_move(site.storage, ref, now=site.clock.now())
    shown = await move_queue(site.storage, ref, asked.pool, now=site.clock.now())
    return await _followed(site, shown, tell) if asked.follows else shown


async def find_all(site: Site, _: Wanted, tell: Tell) -> list[ShownMove]:
    return list(await moves(site.storage, now=site.clock.now()))


async def balance(site: Site, wanted: Wanted, tell: Tell) -> list[Proposal]:
    """The moves that are proposed; if they are to be made, tell how far they are until the last one is over."""
    proposed = list(await proposals(site.storage))
    if not wanted.makes:
        return proposed
    asked = [
        await move_queue(
            site.storage, QueueRef(each.project, each.queue), each.pool, now=site.clock.now()
        )
        for each in proposed
    ]
    for number, shown in enumerate(asked, 1):
        await _followed(site, shown, partial(_tell_of, tell, f"{number} of {len(asked)}"))
    return proposed


def _tell_of(tell: Tell, which: str, text: str) -> None:
    tell(f"{which}: {text}")


async def _followed(site: Site, shown: ShownMove, tell: Tell) -> ShownMove:
    last = ""
    while True:
        shown = await move_of_id(site.storage, shown.id, now=site.clock.now())
        text = _progress(shown)
        if text != last:
            tell(text)
        if shown.state.is_over:
            return shown
        last = text
        await asyncio.sleep(LOOK_SECONDS)


def _progress(shown: ShownMove) -> str:
    reason = f" ({shown.reason})" if shown.reason else ""
    return (
        f"{shown.queue}: {shown.state.value}, {shown.copied} of about {shown.total} copied{reason}"
    )


def _changed(asked: Asked) -> JsonObject:
    """The facts for the audit."""
    rule = "moves:delete" if asked.pool is None else "moves:create"
    return {"rule": rule, "project": asked.project, "queue": asked.queue, "pool": asked.pool or ""}


def _balanced(wanted: Wanted) -> JsonObject:
    return {"rule": "moves:create", "makes": wanted.makes}


START = Command("queue move", Asked, ShownMove, start, _changed)
FIND_ALL = Command("queue moves", Wanted, list[ShownMove], find_all)
BALANCE = Command("rebalance", Wanted, list[Proposal], balance, _balanced)


def register(app: typer.Typer) -> None:
    app.command("rebalance")(rebalance)


def move(
    context: typer.Context,
    queue: Queue,
    pool: Annotated[
        str | None, typer.Argument(show_default=False, help="Name of the pool that it is to be on.")
    ] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Give up its move; the queue stays where it is.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(help="Tell how far the move is until it is over; Ctrl-C does not end it."),
    ] = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Move a queue to another pool while it is in use."""
    if (pool is None) is not cancel:
        raise typer.BadParameter("name the pool, or say --cancel")
    shown = perform(START, Asked(_project(context), queue, pool, wait), data)
    if as_json:
        print_json(shown)
    else:
        _print([shown], as_json=False)
    if shown.reason and shown.state.is_over:
        raise StartRefused(f"Queue {queue} stays on its pool: {shown.reason}")


def moves_(data: Data = None, as_json: Json = False) -> None:
    """List the moves of queues: those of the last days, and those under way."""
    _print(perform(FIND_ALL, Wanted(makes=False), data), as_json=as_json)


def rebalance(
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Make the moves, one after the other; Ctrl-C does not end them."
        ),
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Propose moves of queues, so that each pool has its part by weight."""
    proposed = perform(BALANCE, Wanted(makes=yes), data)
    if as_json:
        print_json(proposed)
        return
    if not proposed:
        typer.echo("Each pool has its part of the queues: there is nothing to move", err=True)
        return
    rows = [(each.queue, each.project, each.source, each.pool) for each in proposed]
    print_table(("QUEUE", "PROJECT", "FROM", "TO"), rows)


def _project(context: typer.Context) -> str:
    address: ServiceAddress = context.obj
    return address.project or DEFAULT_PROJECT


def _print(found: list[ShownMove], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each.queue,
            each.project,
            each.source or "-",
            each.pool,
            each.state.value,
            f"{each.copied} of {each.total}",
            f"{each.held_up_ms[-1]} ms" if each.held_up_ms else "-",
            each.reason or "-",
        )
        for each in found
    ]
    print_table(HEADINGS, rows)
