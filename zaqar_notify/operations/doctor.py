"""Looks at everything that a process needs, before or while it runs, and names the faults.

Every check is bounded in time, changes nothing, and never shows a secret.
"""

from __future__ import annotations

import asyncio
import platform
import stat
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from zaqar_notify import __version__
from zaqar_notify.delivery.kinds import Kinds
from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.files import attainable_files
from zaqar_notify.findings import ANSWER_SECONDS, Finding, ok, problem, warning
from zaqar_notify.operations import broker_diagnosis
from zaqar_notify.operations.certificate import certificate_of
from zaqar_notify.operations.single import (
    DATABASE,
    KEY_NAMES,
    KEYS,
    own_store,
    read_keys,
    single_process,
)
from zaqar_notify.settings import Settings, shown, sources, variable
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import driver_of, open_control, open_storage_of

WORRYING_SKEW_SECONDS = 1.0

WORRYING_DAYS = 14
"""Before a certificate expires."""

OTHER_FILES = 256
"""File descriptors of a process beside those of its deliveries: requests, store, logs."""


async def examine(
    settings: Settings, data: Path | None, kinds: Kinds, running: Sequence[Finding] = ()
) -> list[Finding]:
    """All checks, in the order of their urgency.

    Args:
        running: The findings of the `up` that has the store open.
        kinds: The kinds of subscribers; each looks at the needs of its own deliveries.
        data: The data directory of the single-process shape; None: a process of a cluster.
    """
    if data is not None:
        settings = single_process(settings, data)
    return [
        *_settings(),
        *await _store(settings),
        *running,
        *([] if data is None else _keys(settings, data)),
        *await broker_diagnosis.diagnose(settings, is_needed=data is None),
        *_schemes(settings, kinds),
        *[finding for kind in kinds for finding in await kind.diagnose(settings)],
        *_secrets(settings, is_single=data is not None),
        *_confirmation(settings, is_single=data is not None),
        *_files(settings),
        *_certificate(settings, datetime.now(UTC)),
    ]


def _settings() -> list[Finding]:
    given = [variable(name) for name, source in sources().items() if source != "default"]
    release = f"zaqar-notify {__version__}, Python {platform.python_version()}"
    return [ok("settings", f"{release}; set: {', '.join(given) or 'nothing'}")]


async def _store(settings: Settings) -> list[Finding]:
    uri = settings.store_uri
    if not uri:
        return [
            problem(
                "store",
                "ZAQAR_STORE_URI is not set",
                "Name the store of the cluster; or say --data DIR for a single process",
            )
        ]
    try:
        findings = await driver_of(uri).diagnose(uri, settings.keyring)
        if findings is not None:
            return [*findings, *await _control(settings)]
        async with asyncio.timeout(4 * ANSWER_SECONDS):
            storage = await open_storage_of(settings, prepare=False)
            try:
                return await answers(storage, uri)
            finally:
                await storage.close()
    except StartRefused as error:
        return [problem("store", str(error), "A process with these settings would not start")]
    except (StorageUnavailable, TimeoutError) as error:
        return [
            problem(
                "store",
                f"{shown(uri)} can't be used: {str(error) or 'it gives no answer in time'}",
                "Start it, or correct ZAQAR_STORE_URI; posts and claims are answered 503 until then",
            )
        ]


async def _control(settings: Settings) -> list[Finding]:
    """The findings about a control store in another database, beside a message store that is looked at from outside."""
    uri = settings.control_uri
    if not uri or not driver_of(uri).is_shared:
        return []
    try:
        async with asyncio.timeout(2 * ANSWER_SECONDS):
            store = await open_control(
                uri, unreliable=settings.unreliable, prepare=False, keys=settings.keyring
            )
            try:
                await store.ping()
                return [ok("control store", f"{shown(uri)} answers"), *await store.diagnose()]
            finally:
                await store.close()
    except (StartRefused, StorageUnavailable, TimeoutError) as error:
        return [
            problem(
                "control store",
                f"{shown(uri)} can't be used: {str(error) or 'it gives no answer in time'}",
                "Start it, or correct ZAQAR_CONTROL_URI; new queues are answered 503 until then",
            )
        ]


async def answers(storage: Storage, uri: str) -> list[Finding]:
    """The findings about an open store."""
    began = time.monotonic()
    await storage.ping()
    milliseconds = (time.monotonic() - began) * 1000
    findings = [ok("store", f"{shown(uri)} answers in {milliseconds:.1f} ms")]
    asked_at = datetime.now(UTC)
    instant = await storage.read_clock()
    if instant is not None:
        middle = asked_at + (datetime.now(UTC) - asked_at) / 2
        findings.append(clock_finding((middle - instant).total_seconds()))
    return [*findings, *await storage.diagnose()]


def clock_finding(ahead_seconds: float) -> Finding:
    """The finding about the host's clock, which is this far ahead of the store's; negative: behind."""
    direction = "ahead of" if ahead_seconds > 0 else "behind"
    sentence = f"This host's clock is {abs(ahead_seconds):.2f} s {direction} the store's"
    remedy = (
        "Let all hosts keep time by NTP; leases and delays keep to the store's clock all the same"
    )
    if abs(ahead_seconds) > WORRYING_SKEW_SECONDS:
        return warning("clock", sentence, remedy)
    return ok("clock", sentence)


def _keys(settings: Settings, data: Path) -> list[Finding]:
    """The file with the keys that `up` makes when the settings name none."""
    path, database = data / KEYS, data / DATABASE
    if settings.signed_url_secrets and settings.webhook_secret.get_secret_value():
        return [ok("keys", f"The settings name all keys; {path} is not needed")]
    if not path.exists() and not database.exists():
        return [ok("keys", f"{path} is not there yet; the first start makes it")]
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        keys = read_keys(path)
    except StartRefused as error:
        sentence, _, remedy = str(error).partition("; ")
        return [problem("keys", sentence, remedy[0].upper() + remedy[1:])]
    missing = [name for name in KEY_NAMES if not keys.get(name)]
    if missing:
        return [
            problem(
                "keys",
                f"{path} lacks {' and '.join(missing)}",
                "Restore it from the backup; with new keys, receivers refuse our signatures",
            )
        ]
    if mode & 0o077:
        return [
            warning("keys", f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")
        ]
    findings = [ok("keys", f"{path} holds the keys; a backup needs it beside the database")]
    if settings.store_uri == own_store(data) and not database.exists():
        findings.append(
            warning(
                "store",
                f"{path} is there, and the database {database} is not: a start makes an empty one",
                "Set ZAQAR_STORE_URI if the store is another one, or restore the database from the backup, unless it "
                "is meant to begin with nothing",
            )
        )
    return findings


def _schemes(settings: Settings, kinds: Kinds) -> list[Finding]:
    return [
        problem(
            "sinks",
            f"Nothing delivers to {scheme}: subscribers, so they are refused",
            f"Install the package of their sink, or take {scheme} from ZAQAR_SUBSCRIBER_TYPES",
        )
        for scheme in settings.subscriber_types
        if kinds.of(f"{scheme}:") is None
    ]


def _secrets(settings: Settings, *, is_single: bool) -> list[Finding]:
    findings = []
    if not settings.webhook_secret.get_secret_value() and not is_single:
        findings.append(
            warning(
                "secrets",
                "Webhooks are not signed: ZAQAR_WEBHOOK_SECRET is not set",
                "Set the same long random text for every process, and keep it for ever",
            )
        )
    if not settings.signed_url_secrets and not is_single:
        findings.append(
            warning(
                "secrets",
                "There are no pre-signed URLs: ZAQAR_SIGNED_URL_SECRETS is not set",
                "Set the same long random text for every process",
            )
        )
    if not findings:
        findings.append(ok("secrets", "Webhooks and pre-signed URLs are signed"))
    return findings


def _confirmation(settings: Settings, *, is_single: bool) -> list[Finding]:
    if not settings.require_confirmation:
        return []
    findings = []
    if not settings.signed_url_secrets and not is_single:
        findings.append(
            problem(
                "confirmation",
                "No subscriber can confirm: ZAQAR_SIGNED_URL_SECRETS is not set",
                "Set the same long random text for every process",
            )
        )
    if not settings.public_url:
        findings.append(
            warning(
                "confirmation",
                "Requests to confirm carry no link: ZAQAR_PUBLIC_URL is not set",
                "Set it to this service's address as subscribers see it",
            )
        )
    return findings or [ok("confirmation", f"Subscribers confirm at {settings.public_url}")]


def _certificate(settings: Settings, now: datetime) -> list[Finding]:
    try:
        certificate = certificate_of(settings)
    except StartRefused as refusal:
        return [problem("certificate", str(refusal), "Correct the files; the start is refused")]
    if certificate is None:
        return []
    days = (certificate.expires_at - now).days
    sentence = f"{settings.tls_cert_file} is valid for {days} days"
    remedy = "Renew it, and send SIGHUP to the process"
    if days < 0:
        return [problem("certificate", f"{settings.tls_cert_file} has expired", remedy)]
    if days < WORRYING_DAYS:
        return [warning("certificate", sentence, remedy)]
    return [ok("certificate", sentence)]


def _files(settings: Settings) -> list[Finding]:
    files, tries = attainable_files(), settings.delivery_concurrency
    if files is None:
        return [ok("limits", "Any number of files may be open")]
    sentence = f"{files} files may be open (ulimit -Hn), for {tries} tries at once"
    remedy = "Raise LimitNOFILE (ulimit -Hn), or lower ZAQAR_DELIVERY_CONCURRENCY"
    if files < tries + OTHER_FILES:
        return [problem("limits", sentence, remedy)]
    if files < 2 * (tries + OTHER_FILES):
        return [warning("limits", sentence, remedy)]
    return [ok("limits", sentence)]
