"""All settings, read from the environment and the file, and refused with a sentence."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import SecretStr, ValidationError

from zaqar_notify.errors import StartRefused
from zaqar_notify.rules.uris import MASK, masked
from zaqar_notify.settings.authentication import AuthenticationSettings
from zaqar_notify.settings.delivery import (
    DeliverySettings,
    MailSettings,
    SecuritySettings,
    SubscriptionSettings,
)
from zaqar_notify.settings.edge import EdgeSettings
from zaqar_notify.settings.keystone import KeystoneSettings
from zaqar_notify.settings.policy import PolicySettings
from zaqar_notify.settings.push import PushSettings
from zaqar_notify.settings.quotas import QuotaSettings
from zaqar_notify.settings.section import Section
from zaqar_notify.settings.service import (
    BrokerSettings,
    FilterSettings,
    LimitSettings,
    LogSettings,
    ServiceSettings,
    StorageSettings,
)

PREFIX = "ZAQAR_"
CONFIG_FILE = "ZAQAR_CONFIG_FILE"
CLIENT_NAMES = (
    "ZAQAR_URL",
    "ZAQAR_PROJECT",
    "ZAQAR_TOKEN",
    "ZAQAR_CLIENT_ID",
    "ZAQAR_CA_FILE",
    "ZAQAR_RECEIVE_SECRET",
)
"""Read by the command line for the client, not by the service."""
TEST_PREFIX = "ZAQAR_TEST_"


class Settings(
    StorageSettings,
    BrokerSettings,
    LimitSettings,
    QuotaSettings,
    SubscriptionSettings,
    DeliverySettings,
    MailSettings,
    SecuritySettings,
    AuthenticationSettings,
    KeystoneSettings,
    PolicySettings,
    ServiceSettings,
    EdgeSettings,
    PushSettings,
    FilterSettings,
    LogSettings,
):
    """Every setting, checked. Built from its arguments alone: only `load_settings` looks around."""

    def __init__(self, /, **values: Any) -> None:
        """Values may be texts, as the environment has them; missing ones take their default."""
        super().__init__(**values)


SECTIONS: tuple[type[Section], ...] = Settings.__bases__

NAMES = tuple(name for section in SECTIONS for name in section.model_fields)
"""The fields of `Settings`, in the order of their sections."""


class Given(NamedTuple):
    """The text of a setting, and its source: "environment" or "file PATH"."""

    text: str
    source: str


def load_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """The settings of this process: `overrides`, then the environment, then the file, then defaults.

    Args:
        environ: Stands in for the process's environment.
        overrides: Fields of `Settings` that the command line decided.

    Raises:
        StartRefused: A value is wrong, a name unknown, or the file unreadable; the sentence says
            which, where and why, and shows no secret.
    """
    given = _given(os.environ if environ is None else environ)
    values: dict[str, object] = {name: value.text for name, value in given.items()}
    try:
        settings = Settings(**(values | overrides))
    except ValidationError as error:
        for name, value in overrides.items():
            given[name] = Given(shown(value), "command line")
        raise StartRefused(_sentence(error, given)) from None
    _refuse_contradictions(settings)
    return settings


def sources(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """For each field of `Settings` where its value comes from: "environment", "file PATH", "default".

    Raises:
        StartRefused: A name is unknown, or the file unreadable.
    """
    given = _given(os.environ if environ is None else environ)
    return {name: given[name].source if name in given else "default" for name in NAMES}


def variable(name: str) -> str:
    """The environment's name of a field: `smtp_host` is `ZAQAR_SMTP_HOST`."""
    return PREFIX + name.upper()


def shown(value: object) -> str:
    """A field's value as one writes it in the environment; secrets and URI passwords are masked."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ",".join(shown(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return masked(str(value))


# Kubernetes and Docker put these into the environment of every container that runs beside a service
# called zaqar or zaqar-something; they are no spelling mistakes.
_SERVICE_LINK = re.compile(
    r"ZAQAR_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)=.*"
    r"|ZAQAR_(\w+_)?PORT=(tcp|udp)://.*"
)


def _given(environ: Mapping[str, str]) -> dict[str, Given]:
    path = environ.get(CONFIG_FILE, "")
    in_file = _read_file(path) if path else {}
    in_environment = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
    _refuse_unknown(in_file, f"file {path}")
    _refuse_unknown(in_environment, "environment")
    given = {}
    for name in NAMES:
        if variable(name) in in_environment:
            given[name] = Given(in_environment[variable(name)], "environment")
        elif variable(name) in in_file:
            given[name] = Given(in_file[variable(name)], f"file {path}")
    return given


def _refuse_contradictions(settings: Settings) -> None:
    for section in SECTIONS:
        for name, others in section.needs:
            if getattr(settings, name) and not any(getattr(settings, other) for other in others):
                raise StartRefused(
                    f"{variable(name)} is of no use without {' or '.join(map(variable, others))}: "
                    "set that, too, or leave it out"
                )
        for lower, upper in section.at_most:
            low, high = getattr(settings, lower), getattr(settings, upper)
            if low > high:
                raise StartRefused(
                    f"{variable(lower)}={low} is more than {variable(upper)}={high}; set both"
                )


def _read_file(path: str) -> dict[str, str]:
    # Only processes with a file pay for the parser.
    from dotenv.parser import parse_stream

    values = {}
    try:
        with Path(path).open(encoding="utf-8") as file:
            for binding in parse_stream(file):
                if binding.error or (binding.key is not None and binding.value is None):
                    raise StartRefused(
                        f"{CONFIG_FILE}: line {binding.original.line} of {path} is not NAME=value"
                    )
                if binding.key is not None and binding.value is not None:
                    values[binding.key] = binding.value
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StartRefused(f"{CONFIG_FILE}={path!r} can't be read: {reason}") from error
    return values


def _refuse_unknown(values: Mapping[str, str], source: str) -> None:
    known = {CONFIG_FILE, *CLIENT_NAMES, *map(variable, NAMES)}
    for name, text in values.items():
        if name in known or name.startswith(TEST_PREFIX):
            continue
        if _SERVICE_LINK.fullmatch(f"{name}={text}"):
            continue
        raise StartRefused(f"{name} ({source}) is not a setting; {_hint(name, known)}")


def _hint(name: str, known: Iterable[str]) -> str:
    # All share the prefix: compared with it, everything would look alike.
    candidates = [full.removeprefix(PREFIX) for full in known]
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), candidates, n=1)
    return f"did you mean {PREFIX}{nearest[0]}?" if nearest else "see settings.example.env"


def _sentence(error: ValidationError, given: Mapping[str, Given]) -> str:
    return "; ".join(
        _complaint(str(wrong["loc"][0]), wrong["msg"], given) for wrong in error.errors()
    )


def _complaint(name: str, reason: str, given: Mapping[str, Given]) -> str:
    reason = reason.removeprefix("Value error, ").replace("Input", "it", 1)
    if name not in Settings.model_fields:
        return f"{variable(name)} is not a setting"
    field = Settings.model_fields[name]
    text, source = given[name]
    is_secret = SecretStr in (field.annotation, *get_args(field.annotation))
    value = MASK if is_secret else repr(shown(text))
    meaning = (field.description or "").removesuffix(".")
    return f"{variable(name)}={value} ({source}) is wrong: {reason} ({meaning})"
