"""Values with secrets do not show them where they are printed by chance, as in a traceback."""

from __future__ import annotations

import dataclasses
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import msgspec

import api
import sinks
import workers
import zaqar_notify
from zaqar_notify.auth.keystone.own_token import Issued
from zaqar_notify.auth.tokens import NewToken
from zaqar_notify.delivery.trusts import Asker

SECRET = "open-sesame"
HOLDS_SECRET = re.compile(r"(.*_)?(token|secrets?|password|login|authorization|uri)")
"""Names of fields."""
NO_SECRETS = frozenset({"kept_secrets"})
"""They have such a name, and are encrypted."""
PROGRAMS = ("zaqar_notify.__main__", "workers.app")
OF_ANSWERS = "Shown"
"""The types of what a caller may see anyway."""
OF_CLIENTS = "zaqar_notify.client."
"""A client's own secrets are of the program that uses it."""


def types_with_secrets() -> Iterator[tuple[type, frozenset[str]]]:
    for package in (zaqar_notify, sinks, workers, api):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name in PROGRAMS or found.name.startswith(OF_CLIENTS):
                continue
            for kind in vars(import_module(found.name)).values():
                names = frozenset(filter(HOLDS_SECRET.fullmatch, fields(kind))) - NO_SECRETS
                if names and kind.__module__ == found.name and OF_ANSWERS not in kind.__name__:
                    yield kind, names


def fields(kind: Any) -> tuple[str, ...]:
    if not isinstance(kind, type):
        return ()
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    return getattr(kind, "_fields", ()) if issubclass(kind, tuple) else ()


def shown(kind: Any, secret: frozenset[str]) -> str:
    return repr(kind(**{name: SECRET if name in secret else None for name in fields(kind)}))


def test_the_repr_of_a_value_shows_no_secret() -> None:
    found = dict(types_with_secrets())

    assert {Asker, Issued, NewToken} <= found.keys()
    assert [kind for kind, secret in found.items() if SECRET in shown(kind, secret)] == []
