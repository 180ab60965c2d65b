"""`zaqar-notify pool …`: list, show, change or remove pools."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer
from msgspec import UNSET

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import Json, add_group
from zaqar_notify.cli.output import instant, print_json, print_table
from zaqar_notify.errors import PoolDoesNotExist
from zaqar_notify.models import FlavorRef, JsonObject, Pool
from zaqar_notify.operations.admin import Command, Site, Tell
from zaqar_notify.pools import (
    AskedPool,
    PoolChange,
    change_pool,
    pool_of,
    pools_after,
    queues_on,
    register_pool,
    remove_pool,
    shown_uri,
)
from zaqar_notify.rules.uris import masked_document

HEADINGS = ("POOL", "WEIGHT", "PROJECT", "FLAVOR", "STATE", "URI")
LISTED = 1000
"""All that there can be."""
DEFAULT_WEIGHT = 100
MOST_WEIGHT = 2**32 - 1

Name = Annotated[str, typer.Argument(show_default=False, help="Name of the pool.")]


class Nothing(msgspec.Struct):
    """The argument of a command that needs none."""


class Which(msgspec.Struct):
    """The pool that a command is about. `by_force` removes it with its queues."""

    name: str
    by_force: bool = False


class Wanted(msgspec.Struct):
    """A pool, and its new values; those that are unset stay, and a new pool has defaults instead."""

    name: str
    change: PoolChange


class ShownPool(msgspec.Struct):
    """A pool without its password. `queues` counts up to 100, and is null in lists."""

    name: str
    uri: str
    weight: int
    project: str | None
    flavor: str | None
    options: dict[str, Any]
    registered_at: datetime
    state: str
    queues: int | None = None


async def find_all(site: Site, _: Nothing, tell: Tell) -> list[ShownPool]:
    return [_shown(site, pool) for pool in await pools_after(site.storage, None, limit=LISTED)]


async def find(site: Site, which: Which, tell: Tell) -> ShownPool:
    shown = _shown(site, await pool_of(site.storage, which.name))
    shown.queues = len([ref async for ref in queues_on(site.storage, which.name)])
    return shown


async def put(site: Site, wanted: Wanted, tell: Tell) -> ShownPool:
    """Change the pool, or register it if it is new and its URI is given."""
    name, change = wanted.name, wanted.change
    try:
        pool = await change_pool(site.storage, site.settings, name, change)
    except PoolDoesNotExist:
        if change.uri is UNSET:
            raise
        weight = DEFAULT_WEIGHT if change.weight is UNSET else change.weight
        asked = AskedPool(change.uri, weight, change.flavor or None)
        await register_pool(site.storage, site.settings, name, asked, now=site.clock.now())
        pool = await pool_of(site.storage, name)
    return _shown(site, pool)


async def remove(site: Site, which: Which, tell: Tell) -> bool:
    await remove_pool(site.storage, which.name, by_force=which.by_force)
    return True


def _changed(wanted: Wanted) -> JsonObject:
    """The facts for the audit."""
    return {"rule": "pools:update", "pool": wanted.name}


def _removed(which: Which) -> JsonObject:
    return {"rule": "pools:delete", "pool": which.name, "by_force": which.by_force}


FIND_ALL = Command("pool list", Nothing, list[ShownPool], find_all)
FIND = Command("pool show", Which, ShownPool, find)
PUT = Command("pool set", Wanted, ShownPool, put, _changed)
REMOVE = Command("pool delete", Which, bool, remove, _removed)


def register(app: typer.Typer) -> None:
    add_group(app, "pool", "Further stores for messages.", (list_, show, set_, delete))


def list_(data: Data = None, as_json: Json = False) -> None:
    """List pools."""
    found = perform(FIND_ALL, Nothing(), data)
    if as_json:
        print_json(found)
        return
    rows = [
        (each.name, each.weight, each.project or "-", each.flavor or "-", each.state, each.uri)
        for each in found
    ]
    print_table(HEADINGS, rows)


def show(name: Name, data: Data = None, as_json: Json = False) -> None:
    """Show a pool."""
    _print(perform(FIND, Which(name), data), as_json=as_json)


def set_(
    name: Name,
    uri: Annotated[
        str | None,
        typer.Option(
            help="Its store; needed for a new pool. With - it is read from the standard input, so that no password is "
            "in the list of processes.",
            show_default=False,
        ),
    ] = None,
    weight: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_WEIGHT,
            help=f"Its part of new queues; 0: none. A new pool has {DEFAULT_WEIGHT}.",
            show_default=False,
        ),
    ] = None,
    flavor: Annotated[
        str | None,
        typer.Option(help='Its flavor, with --project; "" takes it out.', show_default=False),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="The project of the flavor.", show_default=False)
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Register a pool, or change one."""
    if flavor and not project:
        raise typer.BadParameter("--flavor needs --project: flavors belong to projects")
    change = PoolChange(
        UNSET if uri is None else sys.stdin.readline().strip() if uri == "-" else uri,
        UNSET if weight is None else weight,
        UNSET if flavor is None else FlavorRef(project or "", flavor) if flavor else None,
    )
    _print(perform(PUT, Wanted(name, change), data), as_json=as_json)


def delete(
    name: Name,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also if it has queues, or its store is away: their messages and deliveries are lost.",
        ),
    ] = False,
    data: Data = None,
) -> None:
    """Remove a pool without queues. Its store stays as it is."""
    perform(REMOVE, Which(name, force), data)


def _shown(site: Site, pool: Pool) -> ShownPool:
    stores = site.storage.pools
    return ShownPool(
        pool.name,
        shown_uri(pool),
        pool.weight,
        None if pool.flavor is None else pool.flavor.project,
        None if pool.flavor is None else pool.flavor.name,
        masked_document(pool.options or {}),
        pool.registered_at,
        "up" if pool.name in stores else "away",
    )


def _print(pool: ShownPool, *, as_json: bool) -> None:
    if as_json:
        print_json(pool)
        return
    fields = {
        "pool": pool.name,
        "uri": pool.uri,
        "weight": pool.weight,
        "flavor": "-" if pool.flavor is None else f"{pool.flavor} (project {pool.project})",
        "registered": instant(pool.registered_at),
        "state": pool.state,
    }
    if pool.queues is not None:
        fields["queues"] = pool.queues
    print_table(("FIELD", "VALUE"), list(fields.items()))
