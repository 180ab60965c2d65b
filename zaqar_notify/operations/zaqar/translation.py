"""`zaqar-notify config --from`: our settings for a zaqar.conf, as a file for ZAQAR_CONFIG_FILE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.zaqar.conf import ZaqarConf
from zaqar_notify.operations.zaqar.lines import Line, Note, Setting, Topic
from zaqar_notify.operations.zaqar.mail import mails
from zaqar_notify.operations.zaqar.options import WSGI, is_used, reason_of
from zaqar_notify.operations.zaqar.stores import store
from zaqar_notify.operations.zaqar.topics import (
    authentication,
    browsers,
    logs,
    notifications,
    policy,
    quotas,
    same,
    signed_urls,
    subscribers,
    versions,
    websocket,
)
from zaqar_notify.settings import Settings, load_settings, variable

TOPICS: Sequence[tuple[str, Topic]] = (
    ("Store", store),
    ("Authentication", authentication),
    ("Policy", policy),
    ("Pre-signed URLs", signed_urls),
    ("Limits and API", same),
    ("Versions", versions),
    ("WebSocket", websocket),
    ("Subscribers", subscribers),
    ("Notifications", notifications),
    ("Mail", mails),
    ("Browsers", browsers),
    ("Quotas", quotas),
    ("Logs", logs),
)


def translated(conf: ZaqarConf) -> str:
    """The text of the settings file, with comments about everything that differs."""
    lines = [*_head(conf)]
    settings: list[Setting] = []
    for title, topic in TOPICS:
        of_topic = [_accepted(line) for line in topic(conf)]
        settings += [line for line in of_topic if isinstance(line, Setting)]
        if of_topic:
            lines += ["", f"# === {title} ===", *map(str, of_topic)]
    lines += _contradictions(settings)
    without = [*_without(conf)]
    if without:
        lines += ["", "# === Options without a counterpart ===", *map(str, without)]
    return "".join(f"{line}\n" for line in lines)


def _head(conf: ZaqarConf) -> Iterator[str]:
    host, port = conf.get(WSGI, "bind", "127.0.0.1"), conf.get(WSGI, "port", "8888")
    yield f"# Settings of zaqar-notify for {conf.path}"
    yield "# It holds the secrets of that file: write it to a file that only the service's user can read (umask 077)."
    yield "# One process: ZAQAR_CONFIG_FILE=FILE zaqar-notify up " + f"--host {host} --port {port}"
    yield "# A cluster:   ZAQAR_CONFIG_FILE=FILE zaqar-notify api " + f"--host {host} --port {port}"
    yield "#              ZAQAR_CONFIG_FILE=FILE zaqar-notify worker"


def _accepted(line: Line) -> Line:
    """The line; a setting whose value the service refuses becomes a note."""
    if isinstance(line, Note):
        return line
    try:
        Settings(**{line.name: line.text})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        return Note(f"{variable(line.name)} can't have Zaqar's value: {reason}")
    return line


def _contradictions(settings: Sequence[Setting]) -> list[str]:
    try:
        load_settings({variable(each.name): each.text for each in settings})
    except StartRefused as error:
        return ["", str(Note(f"The service refuses to start with these settings: {error}"))]
    return []


def _without(conf: ZaqarConf) -> Iterator[Note]:
    """The options by reason."""
    reasons: dict[str, list[str]] = {}
    for option in conf.given():
        if not is_used(option):
            reason = reason_of(option) or "Zaqar 23 has no such option"
            reasons.setdefault(reason, []).append(str(option))
    for reason, options in reasons.items():
        yield Note(f"{', '.join(options)}: {reason}")
