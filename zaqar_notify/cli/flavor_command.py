"""`zaqar-notify flavor …`: list, show, change or delete flavors of a project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import Json, add_group
from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.models import FlavorRef, JsonObject
from zaqar_notify.operations.admin import Command, Site, Tell
from zaqar_notify.pools import FlavorView, flavor_of, flavors_of, make_flavor, remove_flavor

HEADINGS = ("FLAVOR", "POOLS", "CAPABILITIES")
LISTED = 1000
"""All that there can be."""

Project = Annotated[str, typer.Argument(show_default=False, help="The project that has it.")]
Name = Annotated[str, typer.Argument(show_default=False, help="Name of the flavor.")]


class Which(msgspec.Struct):
    """The project whose flavors are listed."""

    project: str


class Chosen(Which):
    """A flavor of the project."""

    name: str

    @property
    def ref(self) -> FlavorRef:
        return FlavorRef(self.project, self.name)


class Wanted(Chosen):
    """A flavor, and the names of the pools that it is to have."""

    pools: list[str]


class ShownFlavor(msgspec.Struct):
    """A flavor with its pools, and the promises of their stores."""

    name: str
    pool_list: Sequence[str]
    capabilities: Sequence[str]


async def find_all(site: Site, which: Which, tell: Tell) -> list[ShownFlavor]:
    found = await flavors_of(site.storage, which.project, None, limit=LISTED)
    return [_shown(flavor) for flavor in found]


async def find(site: Site, chosen: Chosen, tell: Tell) -> ShownFlavor:
    return _shown(await flavor_of(site.storage, chosen.ref))


async def put(site: Site, wanted: Wanted, tell: Tell) -> ShownFlavor:
    await make_flavor(site.storage, wanted.ref, wanted.pools)
    return _shown(await flavor_of(site.storage, wanted.ref))


async def remove(site: Site, chosen: Chosen, tell: Tell) -> bool:
    await remove_flavor(site.storage, chosen.ref)
    return True


def _changed(wanted: Wanted) -> JsonObject:
    """The facts for the audit."""
    pools = " ".join(wanted.pools)
    return {
        "rule": "flavors:update",
        "project": wanted.project,
        "flavor": wanted.name,
        "pools": pools,
    }


def _removed(chosen: Chosen) -> JsonObject:
    return {"rule": "flavors:delete", "project": chosen.project, "flavor": chosen.name}


FIND_ALL = Command("flavor list", Which, list[ShownFlavor], find_all)
FIND = Command("flavor show", Chosen, ShownFlavor, find)
PUT = Command("flavor set", Wanted, ShownFlavor, put, _changed)
REMOVE = Command("flavor delete", Chosen, bool, remove, _removed)


def register(app: typer.Typer) -> None:
    add_group(app, "flavor", "Groups of pools, for clients.", (list_, show, set_, delete))


def list_(project: Project, data: Data = None, as_json: Json = False) -> None:
    """List the flavors of a project."""
    found = perform(FIND_ALL, Which(project), data)
    if as_json:
        print_json(found)
    else:
        _print(found)


def show(project: Project, name: Name, data: Data = None, as_json: Json = False) -> None:
    """Show a flavor."""
    _print_one(perform(FIND, Chosen(project, name), data), as_json=as_json)


def set_(
    project: Project,
    name: Name,
    pools: Annotated[
        list[str], typer.Argument(metavar="POOL...", show_default=False, help="Its pools.")
    ],
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a flavor of these pools, or give it these instead of its own."""
    _print_one(perform(PUT, Wanted(project, name, pools), data), as_json=as_json)


def delete(project: Project, name: Name, data: Data = None) -> None:
    """Delete a flavor. Its pools are of none then."""
    perform(REMOVE, Chosen(project, name), data)


def _shown(flavor: FlavorView) -> ShownFlavor:
    return ShownFlavor(flavor.ref.name, flavor.pools, flavor.capabilities)


def _print_one(flavor: ShownFlavor, *, as_json: bool) -> None:
    if as_json:
        print_json(flavor)
    else:
        _print([flavor])


def _print(found: Sequence[ShownFlavor]) -> None:
    rows = [
        (each.name, " ".join(each.pool_list) or "-", " ".join(each.capabilities) or "-")
        for each in found
    ]
    print_table(HEADINGS, rows)
