"""The single process: the keys in its data directory, and the addresses of its deliveries."""

from __future__ import annotations

import os
import secrets
from ipaddress import ip_network
from pathlib import Path

from pydantic import SecretStr

from zaqar_notify.errors import StartRefused
from zaqar_notify.files import sync_directory
from zaqar_notify.rules.quotas import NAMES
from zaqar_notify.settings import VERSIONS, Network, Settings

DATABASE = "zaqar-notify.db"
KEYS = "keys.env"
KEY_NAMES = ("SIGNED_URL_SECRET", "WEBHOOK_SECRET")
QUOTAS = tuple(f"quota_{name}" for name in NAMES)
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
"""Allowed beside public addresses, unless ZAQAR_DELIVERY_ALLOW is set."""


def own_store(data: Path) -> str:
    """The URI of the database in a data directory, which is the store unless the settings name one."""
    return f"sqlite://{(data / DATABASE).resolve()}"


def single_process(settings: Settings, data: Path) -> Settings:
    """The settings of a single process on this data directory, without the keys that it makes there."""
    return _with_all_versions(with_set_quotas_only(settings)).model_copy(
        update={
            "store_uri": settings.store_uri or own_store(data),
            "broker_uri": "",
            "delivery_allow": _allowed_networks(settings),
        }
    )


def _allowed_networks(settings: Settings) -> tuple[Network, ...]:
    """An empty ZAQAR_DELIVERY_ALLOW allows none, too."""
    if "delivery_allow" in settings.model_fields_set:
        return settings.delivery_allow
    return LOOPBACK


def with_set_quotas_only(settings: Settings) -> Settings:
    """The settings without the defaults of quotas: a single process has no limit that is not set."""
    unset = [name for name in QUOTAS if name not in settings.model_fields_set]
    return settings.model_copy(update=dict.fromkeys(unset, 0))


def _with_all_versions(settings: Settings) -> Settings:
    """The settings with every version of the API, unless they name some."""
    if "versions" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"versions": VERSIONS})


def with_keys(settings: Settings, data: Path) -> Settings:
    """The settings with the keys of this data directory, where they name none of their own.

    The first start makes the keys, before the database. All signatures that receivers know hang on
    them, so they are not made anew beside a database.

    Raises:
        StartRefused: They are missing or can't be read; the sentence names a remedy.
    """
    if settings.signed_url_secrets and settings.webhook_secret.get_secret_value():
        return settings
    path = data / KEYS
    if not os.path.lexists(path) and not (data / DATABASE).exists():
        _make_keys(path)
    keys = read_keys(path)
    missing = [name for name in KEY_NAMES if not keys.get(name)]
    if missing:
        raise StartRefused(f"{path} lacks {' and '.join(missing)}; {RESTORE_KEYS}")
    given: dict[str, object] = {}
    if not settings.signed_url_secrets:
        given["signed_url_secrets"] = (SecretStr(keys["SIGNED_URL_SECRET"]),)
    if not settings.webhook_secret.get_secret_value():
        given["webhook_secret"] = SecretStr(keys["WEBHOOK_SECRET"])
    return settings.model_copy(update=given)


RESTORE_KEYS = (
    "restore it from the backup, since with other keys receivers refuse our signatures; "
    "docs/backup.md says how to make new ones when it is lost"
)


def read_keys(path: Path) -> dict[str, str]:
    """The file's names and values.

    Raises:
        StartRefused: It is missing or can't be read.
    """
    # Imported here: only callers of this function pay for the parser.
    from dotenv import dotenv_values

    try:
        with path.open(encoding="utf-8") as file:
            values = dotenv_values(stream=file, interpolate=False)
    except FileNotFoundError as error:
        raise StartRefused(f"{path} is missing beside a database; {RESTORE_KEYS}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StartRefused(f"{path} can't be read: {reason}; {RESTORE_KEYS}") from error
    return {name: value for name, value in values.items() if value is not None}


def _make_keys(path: Path) -> None:
    """On disk, name and all, before the first signature is made with them.

    Of two processes that start together one makes them; the other is refused by the store's lock.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(f"{name}={secrets.token_hex(32)}\n" for name in KEY_NAMES))
        file.flush()
        os.fsync(descriptor)
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return
    except OSError:  # A file system without hard links.
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_directory(path.parent)
