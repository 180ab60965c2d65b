"""What all commands share: where the service is, and how errors end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from zaqar_notify.client import ClientError, ServiceUnreachable
from zaqar_notify.errors import StartRefused, StorageUnavailable

REFUSED = 1
UNREACHABLE = 3


@dataclass(frozen=True)
class ServiceAddress:
    """The options before the command; `Client` takes the same."""

    url: str
    project: str
    client_id: str | None


class Commands(TyperGroup):
    """Ends errors that we foresaw as one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ServiceUnreachable as error:
            _end(error, UNREACHABLE)
        except (ClientError, StartRefused) as error:
            _end(error, REFUSED)
        except StorageUnavailable as error:
            _end(StartRefused(f"The store is unavailable: {error}"), REFUSED)


def _end(error: Exception, exit_code: int) -> NoReturn:
    print(error, file=sys.stderr)
    raise typer.Exit(exit_code) from error
