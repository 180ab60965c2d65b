"""Logging: one line per event, for people or as JSON; the fields of `extra` follow the message.

Bodies, secrets and subscribers' credentials never go into a record (docs/architecture.md, Logs).
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from textwrap import indent

import orjson

from zaqar_notify.operations.log_rate import LogRate

QUIET = ("uvicorn", "pymongo")
"""Loggers that are kept to their warnings: one speaks of starting and stopping, which we say ourselves,
and one shows the commands to MongoDB when debugging, with bodies and subscribers in them."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def configure(level: str, style: str) -> None:
    """Send records of at least `level` to standard error, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if style == "json" else TextFormatter())
    handler.addFilter(LogRate(handler))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.getLogger().level, logging.WARNING))


def facts(record: logging.LogRecord) -> dict[str, object]:
    """The fields that the caller gave as `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        instant = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = record.getMessage()
        # Blanks alone are harmless in a message: facts stand behind it.
        shown = message if message.isprintable() and "=" not in message else _quoted(message)
        line = f"{instant} {record.levelname.lower()} {shown}"
        line += "".join(f" {key}={_value(value)}" for key, value in facts(record).items())
        if record.exc_info:
            # Indented, so that no line of an error's text passes for a record.
            line += "\n" + indent(self.formatException(record.exc_info), "  ", lambda _: True)
        return line


def _value(value: object) -> str:
    """A fact's value in one word: no receiver and no client can add a fact or a line of its own."""
    text = str(value)
    plain = text.isprintable() and text and not any(mark in text for mark in ' "=\\')
    return text if plain else _quoted(text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in escaped
    )
    return f'"{shown}"'


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(document, default=str).decode()
