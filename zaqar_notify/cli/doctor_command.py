"""`zaqar-notify doctor`: the faults of this installation, and how to mend them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from zaqar_notify.auth import load_policy
from zaqar_notify.cli.administration import directory_of
from zaqar_notify.cli.commands import REFUSED
from zaqar_notify.cli.output import print_json
from zaqar_notify.cli.welcome import needs_token_of
from zaqar_notify.errors import StartRefused
from zaqar_notify.findings import Finding, Level, ok, problem
from zaqar_notify.operations.admin import Command, Site, Tell, ask
from zaqar_notify.settings import AUTH_NONE, AUTH_TOKEN, Settings, load_settings
from zaqar_notify.storage.registry import driver_of


class Question(msgspec.Struct):
    """Asks for the findings about the open store."""


async def look(site: Site, question: Question, tell: Tell) -> list[Finding]:
    """The findings that only the process with the open store can have."""
    from zaqar_notify.operations.doctor import answers

    return await answers(site.storage, site.settings.store_uri)


LOOK = Command("doctor", Question, list[Finding], look)


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data directory of `up`; without it, check a process of a cluster, "
            "if ZAQAR_STORE_URI is set, else ./data.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of lines.")] = False,
) -> None:
    """Check everything that a process with these settings needs; exit code 1 for a problem.

    Looks at settings, store, broker, clock, mail relay, addresses, secrets, limits, callers, Keystone and policy file, and
    changes nothing. It may be run beside the service, as the service's user and with its environment.
    """
    findings = _findings(data)
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            print(_line(finding))
    if any(finding.level is Level.PROBLEM for finding in findings):
        raise typer.Exit(REFUSED)


def _findings(data: Path | None) -> list[Finding]:
    try:
        settings = load_settings()
    except StartRefused as error:
        return [problem("settings", str(error), "No process starts with these settings")]

    # The checks of relays and stores take a while to import.
    from sinks.registry import load_kinds
    from zaqar_notify.auth.keystone.diagnosis import diagnose
    from zaqar_notify.operations.doctor import examine

    try:
        kinds = load_kinds(settings)
    except StartRefused as error:
        return [problem("sinks", str(error), "No process starts with these settings")]
    directory = directory_of(data, settings)
    running = [] if directory is None or _is_shared(settings) else _running(directory)
    return [
        *asyncio.run(examine(settings, directory, kinds, running)),
        ok("callers", _believed(settings)),
        *asyncio.run(_filters(settings)),
        *asyncio.run(diagnose(settings)),
        *_policy(settings),
    ]


async def _filters(settings: Settings) -> list[Finding]:
    """The findings about message filters, if the settings name any."""
    from zaqar_notify.delivery.filters import load_filters

    try:
        filters = load_filters(settings)
    except StartRefused as error:
        return [problem("filters", str(error), "No process starts with these settings")]
    if not filters:
        return []
    own = [found for one in filters.values() for found in await one.diagnose(settings)]
    return [ok("filters", f"Posts pass {', '.join(filters)}"), *own]


def _believed(settings: Settings) -> str:
    """The sentence about `ZAQAR_AUTH`."""
    if not settings.auth:
        return f"On loopback every caller is believed. Elsewhere: {needs_token_of(AUTH_TOKEN)}"
    if settings.auth != AUTH_NONE:
        return needs_token_of(settings.auth)
    if settings.trust_proxy:
        return "Every caller is believed, and only a proxy may reach the service"
    return "Every caller is believed to be any project"


def _policy(settings: Settings) -> list[Finding]:
    """The finding about the policy file, if there is one."""
    if not settings.policy_file:
        return []
    try:
        load_policy(settings)
    except StartRefused as error:
        return [problem("policy", str(error), "No API process starts with it")]
    return [ok("policy", f"The rules of {settings.policy_file} can be used")]


def _is_shared(settings: Settings) -> bool:
    """Whether the store is asked beside the `up` that has it open."""
    try:
        return bool(settings.store_uri) and driver_of(settings.store_uri).is_shared
    except StartRefused:  # The check of the store says so.
        return True


def _running(directory: Path) -> list[Finding]:
    """The findings of the `up` that serves the directory, if one does."""
    try:
        return ask(directory, LOOK, Question(), lambda _: None) or []
    except StartRefused as error:
        return [problem("store", str(error), "Run the doctor as the service's user")]


def _line(finding: Finding) -> str:
    end = "" if finding.sentence.endswith("?") else "."
    remedy = f"{end} {finding.remedy}." if finding.remedy else ""
    return f"{finding.level:<8} {finding.check + ':':<13} {finding.sentence}{remedy}"
