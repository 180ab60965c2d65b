"""The checks of a start: the options of the URI, the servers, the account, and the database."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError, OperationFailure

from zaqar_notify.errors import StartRefused
from zaqar_notify.storage.mongodb.failures import RIGHTS
from zaqar_notify.storage.mongodb.migrations import MARK, Document

DATABASE = "zaqar_notify"
"""When the URI names none."""
OF_THE_SERVER = frozenset({"admin", "config", "local"})

OLDEST_WIRE_VERSION = 17
OLDEST_FEATURES = (6, 0)
"""MongoDB 6.0 is the oldest that this driver is tested with: its servers, and their feature version."""

ANSWER_MS = 10_000
"""How long a call may take, its retries through an election included."""
SELECTION_MS = 5_000
"""How long a call waits for a primary, or for a connection of the pool."""

NEEDED = frozenset({"find", "insert", "update", "remove", "createIndex", "listIndexes"})
"""The actions that an account needs on each of our collections; and listCollections."""

_WEAK = {"0", "1"}
_FILES = {"tlscafile", "tlscertificatekeyfile", "tlscrlfile"}
"""Options that name files."""


def options_of(uri: str) -> dict[str, str]:
    """The URI's options, their names in lower case."""
    return {name.lower(): value for name, value in parse_qsl(urlsplit(uri).query)}


def database_of(uri: str) -> str:
    """The name of the service's database.

    Raises:
        StartRefused: It is the server's own, or none.
    """
    name = unquote(urlsplit(uri).path.removeprefix("/")) or DATABASE
    if name.lower() in OF_THE_SERVER:
        raise StartRefused(
            f"ZAQAR_STORE_URI names the database {name}, which is MongoDB's own: name a database of the service, "
            f"as in /{DATABASE}; authSource={name} names the database of the account"
        )
    if re.search(r'[/\\. "$\0]', name):
        raise StartRefused(f"ZAQAR_STORE_URI: {name!r} can't be the name of a database")
    return name


def refuse_promises(options: Mapping[str, str], *, unreliable: bool) -> None:
    """Refuse options of the URI that would have no effect, or lose messages.

    Raises:
        StartRefused: Leave it out, or say that acknowledged messages may be lost.
    """
    if not unreliable:
        _refuse_weak(options)
    if options.get("readpreference", "primary").lower() != "primary":
        raise StartRefused(
            f"ZAQAR_STORE_URI has readPreference={options['readpreference']}; only the primary has "
            "every acknowledged write: leave it out"
        )
    for name, spelling in _DECIDED.items():
        if name in options:
            raise StartRefused(
                f"ZAQAR_STORE_URI has {spelling}={options[name]}, which the service decides for each "
                "read and write: leave it out"
            )


_DECIDED = {
    name.lower(): name
    for name in ("wtimeoutMS", "readConcernLevel", "readPreferenceTags", "maxStalenessSeconds")
}


def _refuse_weak(options: Mapping[str, str]) -> None:
    written = options.get("w", "majority")
    if written in _WEAK:
        raise StartRefused(
            f"ZAQAR_STORE_URI has w={written}, with which a fail-over loses acknowledged "
            "messages: write w=majority, or set ZAQAR_UNRELIABLE=true"
        )
    if written != "majority":
        raise StartRefused(
            f"ZAQAR_STORE_URI has w={written}; every write waits for a majority of the members, "
            "however many there are: write w=majority, or leave it out"
        )
    if options.get("journal", "true").lower() == "false":
        raise StartRefused(
            "ZAQAR_STORE_URI has journal=false, with which a crash loses acknowledged messages: "
            "write journal=true, or set ZAQAR_UNRELIABLE=true"
        )


def arguments_of(options: Mapping[str, str], *, unreliable: bool) -> dict[str, Any]:
    """The client's options beside those of the URI, which keeps its own time-outs, sizes and promises."""
    arguments: dict[str, Any] = {
        "serverSelectionTimeoutMS": SELECTION_MS,
        "waitQueueTimeoutMS": SELECTION_MS,
        "connectTimeoutMS": SELECTION_MS,
        "timeoutMS": ANSWER_MS,
        "appname": "zaqar-notify",
        "readPreference": "primary",
        "readConcernLevel": "local",
    }
    if not (unreliable and options.get("w") in _WEAK):
        arguments |= {"w": "majority", "journal": True}
    return {name: value for name, value in arguments.items() if name.lower() not in options}


def client_of(uri: str, arguments: dict[str, Any]) -> AsyncMongoClient[Document]:
    """The client. It connects when it is first asked.

    Raises:
        StartRefused: The URI, or a file that it names, can't be used.
    """
    try:
        with warnings.catch_warnings():
            # The library skips an option that it can't read; a promise may be among them.
            warnings.simplefilter("error", UserWarning)
            return AsyncMongoClient(uri, tz_aware=True, **arguments)
    except (ConfigurationError, ValueError, UserWarning) as error:
        raise StartRefused(f"ZAQAR_STORE_URI can't be used: {error}") from error
    except OSError as error:
        files = ", ".join(
            f"{name}={value}"
            for name, value in parse_qsl(urlsplit(uri).query)
            if name.lower() in _FILES
        )
        raise StartRefused(
            f"ZAQAR_STORE_URI can't be used: of {files} one is missing, may not be read, or holds no "
            f"certificate ({error.strerror or error})"
        ) from error


async def refuse_server(client: AsyncMongoClient[Document], *, unreliable: bool) -> bool:
    """Whether the server is a standalone one, which only an unreliable service may use.

    Raises:
        StartRefused: It is, and the service is not; or it is too old, or was upgraded and not yet
            told that there is no way back.
    """
    hello = await client.admin.command("hello")
    alone = "setName" not in hello and not is_router(hello)
    if unreliable:
        return alone
    if hello["maxWireVersion"] < OLDEST_WIRE_VERSION:
        raise StartRefused(
            "The MongoDB of ZAQAR_STORE_URI is too old: take 6.0 or later, or set ZAQAR_UNRELIABLE=true"
        )
    if alone:
        raise StartRefused(
            "The MongoDB of ZAQAR_STORE_URI is a standalone server, which can lose acknowledged "
            "messages: make it a replica set (of one member, if need be), or set ZAQAR_UNRELIABLE=true"
        )
    await _refuse_old_features(client)
    return alone


def is_router(hello: Document) -> bool:
    """Whether a sharded cluster's `mongos` answers."""
    return hello.get("msg") == "isdbgrid"


async def _refuse_old_features(client: AsyncMongoClient[Document]) -> None:
    version = await _feature_version(client)
    if version is not None and _numbers(version) < OLDEST_FEATURES:
        oldest = ".".join(map(str, OLDEST_FEATURES))
        raise StartRefused(
            f"The MongoDB of ZAQAR_STORE_URI has the feature compatibility version {version}: raise it "
            f"to {oldest} (db.adminCommand({{setFeatureCompatibilityVersion: '{oldest}'}})), or set "
            "ZAQAR_UNRELIABLE=true"
        )


async def _feature_version(client: AsyncMongoClient[Document]) -> str | None:
    """The feature version of the server; None: it does not tell."""
    try:
        answer = await client.admin.command("getParameter", featureCompatibilityVersion=1)
    except OperationFailure:
        # A router has none, and an account of the database alone may not ask.
        return None
    version: str = answer["featureCompatibilityVersion"]["version"]
    return version


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


async def refuse_poor_account(
    database: AsyncDatabase[Document], collections: Iterable[str]
) -> None:
    """Refuse an account that may not do all that the service does.

    Raises:
        StartRefused: It lacks rights, which the sentence names.
    """
    answer = await database.command("connectionStatus", showPrivileges=True)
    account = answer["authInfo"]
    if not account["authenticatedUsers"]:
        return  # The servers authenticate no client.
    privileges = account["authenticatedUserPrivileges"]
    lacking = {name: NEEDED - _allowed(privileges, database.name, name) for name in collections} | {
        "": {"listCollections"} - _allowed(privileges, database.name, "")
    }
    rights = sorted(set().union(*lacking.values()))
    if rights:
        user = account["authenticatedUsers"][0]
        raise StartRefused(
            f"The account {user['user']} (of the database {user['db']}) lacks rights on the database "
            f"{database.name}: {', '.join(rights)}; {RIGHTS}"
        )


def _allowed(privileges: Iterable[Document], database: str, collection: str) -> set[str]:
    """The actions that an account may take on a collection; "": on the database."""
    allowed: set[str] = set()
    for privilege in privileges:
        on = privilege["resource"]
        is_on_ours = on.get("db") in ("", database) and on.get("collection") in ("", collection)
        if on.get("anyResource") or is_on_ours:
            allowed.update(privilege["actions"])
    return allowed


async def refuse_foreign(database: AsyncDatabase[Document], collections: Iterable[str]) -> None:
    """Refuse a database in which another application has collections of our names.

    Raises:
        StartRefused: Name a database of the service's own.
    """
    # In this order: a process that starts on a new database sets the mark before anything else.
    taken = sorted({*collections} & {*await database.list_collection_names()})
    if taken and await database["schema"].find_one({"_id": MARK}) is None:
        raise StartRefused(
            f"The database {database.name} has collections of another application under names of ours "
            f"({', '.join(taken)}): name a database of the service's own in ZAQAR_STORE_URI, "
            f"as in /{DATABASE}"
        )
