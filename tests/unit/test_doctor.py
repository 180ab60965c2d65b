"""The doctor finds faults, names the remedy, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.kinds import KINDS
from tests.mongod import mongo_uri
from tests.redis_server import RedisServer, require_redis
from tests.service import free_port, outside_environ
from tests.sinks.certificates import made
from tests.sinks.relay import PASSWORD, USERNAME, MailRelay, relaying
from zaqar_notify.cli import app
from zaqar_notify.findings import Finding, Level
from zaqar_notify.models import QueueRef
from zaqar_notify.operations.broker_diagnosis import redis_release
from zaqar_notify.operations.doctor import clock_finding, examine
from zaqar_notify.operations.single import DATABASE, KEY_NAMES, KEYS
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite.reserve import reserve_of

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(outside_environ()):
        monkeypatch.delenv(name)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data directory that has been used, and is not in use."""
    directory = tmp_path / "data"
    storage = await open_storage(f"sqlite://{directory / DATABASE}")
    await storage.queues.create(QueueRef("p", "q"), metadata={}, now=storage.clock.now())
    await storage.close()
    keys = directory / KEYS
    keys.write_text("".join(f"{name}=0123\n" for name in KEY_NAMES))
    keys.chmod(0o600)
    return directory


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def relay() -> AsyncIterator[MailRelay]:
    async with relaying() as relay:
        yield relay


PUBLIC: dict[str, object] = {"public_url": "https://mq.example.org"}
MAILING = PUBLIC | {"smtp_host": "127.0.0.1", "smtp_sender": "a@example.org"}


async def found(check: str, data: Path | None = None, **settings: object) -> list[Finding]:
    findings = await examine(Settings(**settings), data, KINDS)
    return [finding for finding in findings if finding.check == check]


async def one_found(check: str, data: Path | None = None, **settings: object) -> Finding:
    [finding] = await found(check, data, **settings)
    return finding


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


async def test_an_installation_in_order_has_only_good_news(data: Path) -> None:
    findings = await examine(Settings(), data, KINDS)

    assert {finding.level for finding in findings} == {OK}
    assert {finding.check for finding in findings} >= {"settings", "store", "disk", "keys", "guard"}


async def test_a_database_is_sound_and_used_by_nobody(data: Path) -> None:
    used, sound = await found("store", data)

    assert "is in use by no process" in used.sentence
    assert "is sound" in sound.sentence


async def test_a_database_in_use_is_looked_at_all_the_same(data: Path) -> None:
    storage = await open_storage(f"sqlite://{data / DATABASE}")
    try:
        used, sound = await found("store", data)
        await storage.queues.create(QueueRef("p", "later"), metadata={}, now=storage.clock.now())
    finally:
        await storage.close()

    assert f"is in use by the process {os.getpid()}" in used.sentence
    assert sound.level is OK


async def test_a_service_that_takes_no_posts_for_lack_of_room_is_a_problem(data: Path) -> None:
    storage = await open_storage(f"sqlite://{data / DATABASE}")
    try:
        reserve_of(data / DATABASE).unlink()
        lack, _ = await found("disk", data)
    finally:
        await storage.close()

    assert lack.level is PROBLEM
    assert "posts are refused" in lack.sentence


async def test_an_empty_database_is_the_remains_of_one(data: Path) -> None:
    os.truncate(data / DATABASE, 0)

    finding = await one_found("store", data)

    assert finding.level is PROBLEM
    assert "is empty" in finding.sentence
    assert "restore the last backup" in finding.remedy


async def test_keys_without_a_database_are_told(data: Path) -> None:
    (data / DATABASE).unlink()

    finding = (await found("store", data))[-1]

    assert finding.level is WARNING
    assert "a start makes an empty one" in finding.sentence


async def test_keys_that_are_missing_beside_a_database_are_a_problem(data: Path) -> None:
    (data / KEYS).unlink()

    finding = await one_found("keys", data)

    assert finding.level is PROBLEM
    assert "estore it from the backup" in finding.remedy


async def test_nothing_is_changed_or_made(data: Path, tmp_path: Path) -> None:
    before = contents(data)

    await examine(Settings(), data, KINDS)
    await examine(Settings(), tmp_path / "elsewhere", KINDS)

    assert contents(data) == before
    assert not (tmp_path / "elsewhere").exists()


async def test_a_directory_that_is_not_there_yet_is_no_problem(tmp_path: Path) -> None:
    findings = await examine(Settings(), tmp_path / "elsewhere", KINDS)

    assert {finding.level for finding in findings} == {OK}


async def test_a_damaged_database_is_a_problem(data: Path) -> None:
    database = data / DATABASE
    content = bytearray(database.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    database.write_bytes(content)

    finding = (await found("store", data))[-1]

    assert finding.level is PROBLEM
    assert "restore the last backup" in finding.remedy


async def test_a_database_of_a_later_release_is_a_problem(data: Path) -> None:
    with sqlite3.connect(data / DATABASE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    finding = (await found("store", data))[-1]

    assert finding.level is PROBLEM
    assert "is of schema version 99" in finding.sentence


async def test_a_database_of_another_program_is_a_problem_and_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with closing(sqlite3.connect(theirs / DATABASE)) as db:
        db.execute("PRAGMA journal_mode = wal")
        db.execute("CREATE TABLE orders (id)")
        data = shutil.copytree(theirs, tmp_path / "data", ignore=shutil.ignore_patterns("*-shm"))
    before = contents(data)

    finding = await one_found("store", data)

    assert finding.level is PROBLEM
    assert "is no database of zaqar-notify" in finding.sentence
    assert contents(data) == before


@pytest.mark.parametrize(
    ("free", "level"),
    [
        (99 << 20, PROBLEM),
        (100 << 20, WARNING),
        ((1 << 30) - 1, WARNING),
        (1 << 30, OK),
    ],
)
async def test_little_room_on_the_disk_is_said(
    data: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    usage = shutil.disk_usage(data)._replace(free=free)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    assert (await one_found("disk", data)).level is level


async def test_keys_that_others_can_read_are_a_warning(data: Path) -> None:
    (data / KEYS).chmod(0o644)

    finding = await one_found("keys", data)

    assert finding.level is WARNING
    assert finding.remedy == f"chmod 600 {data / KEYS}"


async def test_a_key_that_is_missing_is_a_problem(data: Path) -> None:
    (data / KEYS).write_text("WEBHOOK_SECRET=0123\n")

    finding = await one_found("keys", data)

    assert finding.level is PROBLEM
    assert "SIGNED_URL_SECRET" in finding.sentence


async def test_a_cluster_without_store_and_broker_is_told_to_name_them() -> None:
    findings = await examine(Settings(), None, KINDS)

    problems = {finding.check for finding in findings if finding.level is PROBLEM}
    assert problems == {"store", "broker"}


async def test_a_store_that_no_release_knows_is_a_problem() -> None:
    finding = await one_found("store", store_uri="postgres://u:hush@host/db")

    assert finding.level is PROBLEM
    assert "hush" not in finding.sentence + finding.remedy


async def test_a_redis_that_forgets_is_a_warning(redis: RedisServer) -> None:
    redis.client.config_set("maxmemory", "100mb")
    redis.client.config_set("maxmemory-policy", "allkeys-lru")

    answers, evicts, forgets = await found("broker", broker_uri=redis.uri)

    assert (answers.level, evicts.level, forgets.level) == (OK, WARNING, WARNING)
    assert "allkeys-lru" in evicts.sentence
    assert "appendonly" in forgets.sentence


async def test_a_redis_in_order_is_good_news(tmp_path: Path) -> None:
    require_redis()
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        answers = await found("broker", broker_uri=redis.uri)
    finally:
        redis.kill()

    assert [finding.level for finding in answers] == [OK]


@pytest.mark.parametrize(
    ("facts", "release"),
    [
        ({"redis_version": "7.0.15"}, "Redis 7.0.15"),
        ({"redis_version": "7.2.4", "valkey_version": "9.0.0"}, "Valkey 9.0.0"),
        ({}, "Redis ?"),
    ],
)
def test_a_broker_is_called_by_its_own_name(facts: dict[str, str], release: str) -> None:
    assert redis_release(facts) == release


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
async def test_a_broker_that_is_away_is_a_problem_and_its_password_is_not_shown(
    scheme: str,
) -> None:
    uri = f"{scheme}://user:hush@127.0.0.1:{free_port()}/0"

    finding = await one_found("broker", broker_uri=uri)

    assert finding.level is PROBLEM
    assert "gives no answer" in finding.sentence
    assert "hush" not in finding.sentence


async def test_a_mail_relay_that_answers_is_good_news(data: Path, relay: MailRelay) -> None:
    finding = await one_found("mail", data, **MAILING, smtp_port=relay.port)

    assert finding.level is OK
    assert relay.said_goodbye.is_set()
    assert relay.mails == []


async def test_a_mail_relay_that_refuses_our_sender_is_a_problem(
    data: Path, relay: MailRelay
) -> None:
    relay.to_sender = "530 5.7.0 log in first"

    finding = await one_found("mail", data, **MAILING, smtp_port=relay.port)

    assert finding.level is PROBLEM
    assert "log in first" in finding.sentence


async def test_a_mail_relay_that_is_away_is_a_problem(data: Path) -> None:
    port = free_port()

    finding = (await found("mail", data, smtp_host="127.0.0.1", smtp_port=port))[0]

    assert finding.level is PROBLEM
    assert f"127.0.0.1:{port}" in finding.sentence


async def test_a_mail_relay_without_tls_is_a_problem_when_tls_is_asked_for(
    data: Path, relay: MailRelay
) -> None:
    finding = (
        await found(
            "mail",
            data,
            smtp_host="127.0.0.1",
            smtp_port=relay.port,
            smtp_tls="starttls",
            smtp_username=USERNAME,
            smtp_password=PASSWORD,
        )
    )[0]

    assert finding.level is PROBLEM
    assert PASSWORD not in finding.sentence


@pytest.mark.parametrize(
    ("command", "level"), [(sys.executable, OK), ("/nowhere/sendmail -t -oi", PROBLEM)]
)
async def test_a_sendmail_command_has_to_be_there(data: Path, command: str, level: Level) -> None:
    assert (await one_found("mail", data, **PUBLIC, sendmail_command=command)).level is level


@pytest.mark.parametrize(
    ("allow", "deny", "level", "shown"),
    [
        (None, "", OK, "127.0.0.0/8"),
        ("", "", OK, "public addresses only"),
        ("10.0.0.0/8", "", OK, "10.0.0.0/8"),
        ("0.0.0.0/0", "", WARNING, "0.0.0.0/0"),
        ("::/0", "", WARNING, "::/0"),
        ("169.254.0.0/16", "", WARNING, "169.254.169.254"),
        ("169.254.0.0/16", "169.254.169.254", OK, "169.254.0.0/16"),
    ],
)
async def test_what_deliveries_may_reach_beside_public_addresses_is_said(
    data: Path, allow: str | None, deny: str, level: Level, shown: str
) -> None:
    given = {} if allow is None else {"delivery_allow": allow}
    finding = await one_found("guard", data, delivery_deny=deny, **given)

    assert finding.level is level
    assert shown in finding.sentence


async def test_a_cluster_without_secrets_is_warned() -> None:
    assert [finding.level for finding in await found("secrets")] == [WARNING, WARNING]
    assert [
        finding.level
        for finding in await found("secrets", webhook_secret="a", signed_url_secrets="b")
    ] == [OK]


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        ({"require_confirmation": False}, []),
        ({"public_url": "https://mq.example"}, [OK]),
        ({}, [WARNING]),
    ],
)
async def test_confirmation_needs_addresses(
    data: Path, settings: dict[str, object], levels: list[Level]
) -> None:
    findings = await found("confirmation", data, **({"require_confirmation": True} | settings))

    assert [finding.level for finding in findings] == levels


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        (PUBLIC | {"require_confirmation": True}, [OK]),
        ({"public_url": "http://mq.example.org"}, [OK, WARNING]),
        ({}, [OK, WARNING]),
        ({"require_confirmation": True}, [OK, PROBLEM]),
        (
            {"require_confirmation": True, "external_confirmation_url": "https://page.example"},
            [OK, WARNING],
        ),
    ],
)
async def test_links_in_mails_need_the_public_url(
    data: Path, settings: dict[str, object], levels: list[Level]
) -> None:
    findings = await found("mail", data, sendmail_command=sys.executable, **settings)

    assert [finding.level for finding in findings] == levels
    assert all("ZAQAR_PUBLIC_URL" in finding.sentence for finding in findings[1:])


async def test_a_scheme_that_nothing_delivers_to_is_a_problem(data: Path) -> None:
    assert await found("sinks", data) == []

    finding = await one_found("sinks", data, subscriber_types="https,gopher")

    assert finding.level is PROBLEM
    assert "gopher:" in finding.sentence


async def test_confirmation_in_a_cluster_needs_a_key() -> None:
    finding = (await found("confirmation", require_confirmation=True))[0]

    assert finding.level is PROBLEM
    assert "ZAQAR_SIGNED_URL_SECRETS" in finding.sentence


@pytest.mark.parametrize(
    ("files", "level"), [(511, PROBLEM), (512, WARNING), (1023, WARNING), (1024, OK)]
)
async def test_few_files_for_many_tries_are_said(
    data: Path, monkeypatch: pytest.MonkeyPatch, files: int, level: Level
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))

    assert (await one_found("limits", data, delivery_concurrency=256)).level is level


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (0.0, OK, "behind"),
        (1.0, OK, "ahead of"),
        (-1.01, WARNING, "1.01 s behind"),
        (3600.0, WARNING, "3600.00 s ahead of"),
    ],
)
def test_a_clock_that_is_off_is_said(ahead: float, level: Level, words: str) -> None:
    finding = clock_finding(ahead)

    assert finding.level is level
    assert words in finding.sentence


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [(60, OK, "is valid for"), (3, WARNING, "is valid for 2 days"), (-1, PROBLEM, "has expired")],
)
async def test_the_end_of_a_certificate_is_said(
    data: Path, tmp_path: Path, days: int, level: Level, words: str
) -> None:
    pem = str(made(tmp_path, days=days))

    findings = await examine(Settings(tls_cert_file=pem, tls_key_file=pem), data, KINDS)

    [found] = [each for each in findings if each.check == "certificate"]
    assert found.level is level
    assert words in found.sentence


async def test_a_certificate_that_can_not_be_used_is_a_problem(data: Path) -> None:
    settings = Settings(tls_cert_file="/absent", tls_key_file="/absent")

    [found] = [each for each in await examine(settings, data, KINDS) if each.check == "certificate"]

    assert found.level is PROBLEM
    assert "ZAQAR_TLS_CERT_FILE" in found.sentence


def test_the_command_prints_a_line_for_each_finding(data: Path) -> None:
    result = run("--data", str(data))

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert all(line.startswith("ok       ") for line in lines)
    assert len(lines) > 6


def test_a_problem_ends_the_command_with_1_and_says_what_to_do(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAQAR_SENDMAIL_COMMAND", "/nowhere/sendmail")

    result = run("--data", str(data), "--json")

    [found] = [each for each in json.loads(result.stdout) if each["level"] == "problem"]
    assert result.exit_code == 1
    assert found["check"] == "mail"
    assert "ZAQAR_SENDMAIL_COMMAND" in found["remedy"]


def test_settings_that_nobody_could_start_with_are_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZAQAR_SMTP_PROT", "25")

    result = run()

    assert result.exit_code == 1
    assert result.stdout.startswith("problem  settings:")
    assert "did you mean ZAQAR_SMTP_PORT?" in result.stdout


def test_without_a_directory_the_settings_say_which_shape_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    single = run()
    monkeypatch.setenv("ZAQAR_STORE_URI", f"sqlite://{tmp_path}/cluster.db")
    cluster = run()

    assert f"{tmp_path}/data/{DATABASE} is not there yet" in single.stdout
    assert f"{tmp_path}/cluster.db is not there yet" in cluster.stdout
    assert (single.exit_code, cluster.exit_code) == (0, 1)


def test_a_message_filter_that_is_not_installed_is_a_problem(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAQAR_FILTERS", "cuts")

    result = run("--data", str(data))

    assert result.exit_code == 1
    [line] = [line for line in result.output.splitlines() if line.startswith("problem")]
    assert "ZAQAR_FILTERS names 'cuts', and there is no such filter" in line


async def test_a_control_store_in_another_database_is_looked_at(data: Path) -> None:
    there = Settings(control_uri=mongo_uri())
    gone = Settings(control_uri="mongodb://127.0.0.1:1/c?timeoutMS=300")

    found = await examine(there, data, KINDS)
    lost = await examine(gone, data, KINDS)

    assert [each.level for each in found if each.check == "control store"] == [OK]
    [problem] = [each for each in lost if each.check == "control store"]
    assert "can't be used: " in problem.sentence
    assert not problem.sentence.endswith(": ")
    assert problem.level is PROBLEM
