"""The command line without a service: its syntax, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
import yaml
from typer.testing import CliRunner, Result

from tests.service import free_port, outside_environ
from zaqar_notify import __version__
from zaqar_notify.auth.rules import BLOCKS, RULES, STRICT_CHECKS, Scope
from zaqar_notify.cli import app, output
from zaqar_notify.cli.arguments import POST_BYTES, POST_MESSAGES, in_groups
from zaqar_notify.cli.receive import receive
from zaqar_notify.client import RawJson
from zaqar_notify.delivery import OWED_TTL_SECONDS, InternalPost
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.operations.single import DATABASE
from zaqar_notify.settings import SECTIONS
from zaqar_notify.settings.loading import CLIENT_NAMES
from zaqar_notify.settings.pages import entries, example_file, markdown_page
from zaqar_notify.storage.internal import POISON_REF
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite.opening import open_file


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(outside_environ()):
        monkeypatch.delenv(name)


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


def test_the_version_is_printed() -> None:
    result = run("--version")

    assert result.stdout == f"zaqar-notify {__version__}\n"
    assert result.exit_code == 0


def test_help_names_every_command() -> None:
    result = run("--help")

    for name in ("up", "post", "tail", "claim", "subscribe", "ping", "config", "doctor"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize(
    ("noun", "verbs"),
    [
        (
            "queue",
            [
                "list",
                "create",
                "show",
                "set",
                "delete",
                "purge",
                "stats",
                "redrive",
                "move",
                "moves",
            ],
        ),
        ("delivery", ["list", "show", "tail", "replay"]),
        ("replay", ["list", "show", "cancel"]),
        ("message", ["get", "delete"]),
        ("claim", ["create", "renew", "release"]),
        (
            "subscription",
            ["list", "show", "update", "pause", "resume", "test", "delete", "secret"],
        ),
        ("poison", ["list", "retry", "drop"]),
        ("policy", ["list"]),
        ("share", ["create", "revoke"]),
        ("suppression", ["list", "delete"]),
    ],
)
def test_commands_for_collections_are_a_singular_noun_with_verbs(
    noun: str, verbs: list[str]
) -> None:
    assert f"\n  {noun} " in run("--help").stdout
    result = run(noun, "--help")

    listed = [line.split()[0] for line in result.stdout.partition("Commands:")[2].splitlines()[1:]]
    assert listed == verbs


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["post"], "Missing argument 'queue'"),
        (["post", "q", "hello"], "BODY is not JSON"),
        (["post", "q", "hello"], "--text posts it as plain text"),
        (["post", "q", "NaN"], "NaN is not JSON"),
        (["post", "q", '"\udcff"'], "BODY is not JSON"),
        (["post", "q", "[" * 100_000], "BODY is not JSON"),
        (["tail", "q", "--count", "0"], "--count"),
        (["claim", "q", "--wait", "21"], "--wait"),
        (["subscribe", "q", "http://a", "--header", "X-Key"], "is not NAME=VALUE"),
        (["subscription", "secret", "q", "s1", "--overlap", "5"], "--overlap is for --rotate"),
        (["subscribe", "q", "http://a", "--filter", "{"], "--filter '{' is not JSON"),
        (["post", "q", "1", "--attribute", "colour"], "--attribute 'colour' is not NAME=VALUE"),
        (["post", "q", "1", "--attribute", "a:String.Array=x"], "--attribute 'x' is not JSON"),
        (["unknown"], "No such command 'unknown'"),
        (["up", "--port", "65536"], "--port"),
    ],
)
def test_what_is_not_understood_ends_with_2(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stdout == ""


def test_a_line_that_is_not_json_is_named_and_nothing_is_posted() -> None:
    result = run("post", "q", "--lines", stdin='{"a": 1}\n\nhello\n')

    assert result.exit_code == 2
    assert "line 3 is not JSON" in result.stderr


@pytest.mark.parametrize("arguments", [["ping"], ["queue", "stats", "q"], ["post", "q", "1"]])
def test_a_service_that_is_not_there_ends_with_3_and_one_sentence(arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    result = run("--url", url, *arguments)

    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == (
        f"Nothing answers at {url}: start the service with `zaqar-notify up`, "
        "or say where it is with --url or ZAQAR_URL\n"
    )


def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("ZAQAR_URL", url)

    assert url in run("ping").stderr


def test_config_shows_each_setting_with_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "zaqar.env"
    file.write_text("ZAQAR_SMTP_HOST=mail.example\nZAQAR_SMTP_SENDER=ops@example.org\n")
    monkeypatch.setenv("ZAQAR_CONFIG_FILE", str(file))
    monkeypatch.setenv("ZAQAR_SMTP_PORT", "2525")

    lines = run("config").stdout.splitlines()

    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert rows["ZAQAR_SMTP_PORT"] == ["2525", "environment"]
    assert rows["ZAQAR_SMTP_HOST"] == ["mail.example", f"file {file}"]
    assert rows["ZAQAR_SMTP_TLS"] == ["none", "default"]


def test_config_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAQAR_WEBHOOK_SECRET", "hush")
    monkeypatch.setenv("ZAQAR_BROKER_URI", "redis://:hush@host/0")

    shown = json.loads(run("config", "--json").stdout)

    values = {setting["name"]: setting["value"] for setting in shown}
    assert values["ZAQAR_WEBHOOK_SECRET"] == "********"
    assert values["ZAQAR_BROKER_URI"] == "redis://:********@host/0"


@pytest.mark.parametrize("command", ["config", "up"])
def test_a_wrong_setting_ends_with_1_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("ZAQAR_SMTP_PORT", "mail")

    result = run(command)

    assert result.exit_code == 1
    assert result.stderr.startswith("ZAQAR_SMTP_PORT='mail' (environment) is wrong: ")
    assert result.stderr.count("\n") == 1


def test_the_help_of_config_lists_every_setting_with_its_sentence() -> None:
    text = without_spaces(run("config", "--help").stdout)

    for section in SECTIONS:
        assert without_spaces(f"Settings: {section.title}:") in text
        for entry in entries(section):
            assert without_spaces(entry.name + entry.sentence) in text


def without_spaces(text: str) -> str:
    """The width of the terminal does not matter."""
    return "".join(text.split())


def test_config_prints_the_example_file_and_the_documented_table() -> None:
    assert run("config", "--example").stdout == example_file()
    assert run("config", "--markdown").stdout == markdown_page()


def test_the_page_of_settings_lists_every_variable_of_the_client() -> None:
    for name in CLIENT_NAMES:
        assert f"| `{name}` |" in markdown_page()


def test_groups_of_lines_stay_below_both_limits() -> None:
    many = [RawJson("1")] * (2 * POST_MESSAGES + 1)
    large = [RawJson(f'"{"x" * (POST_BYTES // 2)}"')] * 3

    assert [len(group) for group in in_groups(many)] == [POST_MESSAGES, POST_MESSAGES, 1]
    assert [len(group) for group in in_groups(large)] == [1, 1, 1]


def test_client_commands_import_nothing_that_serves() -> None:
    serving = "{'fastapi', 'uvicorn', 'apsw', 'aiohttp', 'rich'}"
    script = f"import sys, zaqar_notify.cli; print({serving} & set(sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert loaded.stdout == b"set()\n"


def test_poison_in_a_data_directory_is_shown_and_dropped(tmp_path: Path) -> None:
    async def put_one_aside() -> None:
        storage = await open_storage(f"sqlite://{tmp_path / DATABASE}")
        message = NewMessage(body=b'"not a job"', ttl=OWED_TTL_SECONDS)
        await storage.post(POISON_REF, InternalPost([message]), now=storage.clock.now())
        await storage.close()

    asyncio.run(put_one_aside())
    data = ("--data", str(tmp_path))

    assert len(run("poison", "list", *data).stdout.splitlines()) == 2
    assert run("poison", "retry", *data).exit_code == 1
    assert run("poison", "drop", *data).exit_code == 0
    assert run("poison", "list", *data).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        ((), 1, "ZAQAR_STORE_URI is not set"),
        (("--data", "no-such-directory"), 1, "There is no zaqar-notify.db in"),
    ],
)
def test_poison_needs_to_know_where_and_what(
    arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    result = run("poison", "list", *arguments)

    assert result.exit_code == exit_code
    assert said in result.output


def is_listening(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def test_what_a_sender_sends_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    receiving = threading.Thread(
        target=receive,
        kwargs={"host": "127.0.0.1", "port": port, "secret": "", "status": 204, "count": 2},
    )
    receiving.start()
    deadline = time.monotonic() + 10
    while not is_listening(port):
        assert time.monotonic() < deadline

    for body in (b"\x1b[2J", b'{"a": "\x1b[2J", "b": 1}'):
        answered = requests.post(
            f"http://127.0.0.1:{port}/%1b",
            data=body,
            headers={"Zaqar-Queue": "q\x9b2J"},
            timeout=10,
        )
        assert answered.status_code == 204
    receiving.join(10)

    printed = capsys.readouterr().out
    assert "Zaqar-Queue: q" in printed
    assert "\\u001b[2J" in printed
    assert not {"\x1b", "\x9b"} & set(printed)


def test_a_store_that_goes_away_during_the_start_ends_it_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_storage: object) -> None:
        raise StorageUnavailable("the connection was reset")

    lock, writer = open_file(tmp_path / DATABASE)
    writer.close()
    os.close(lock)
    monkeypatch.setattr("zaqar_notify.storage.sqlite.storage.SQLiteStore.read_clock", fail)

    result = run("poison", "list", "--data", str(tmp_path))

    assert result.exit_code == 1
    assert result.output == "The store is unavailable: the connection was reset\n"


async def _make_queues_of_two_states(uri: str) -> None:
    """One queue has lost its record, and another one its change."""
    storage = await open_storage(uri)
    now = storage.clock.now()
    for name in ("unlisted", "changed", "whole"):
        await storage.queues.create(QueueRef("demo", name), metadata={}, now=now)
    await storage.control.records.remove(QueueRef("demo", "unlisted"), revision=1)
    await storage.control.records.update(QueueRef("demo", "changed"), lambda _: {})
    await storage.heads.put(
        QueueRef("demo", "changed"), {"_max_claim_count": 1}, revision=9, subscribed_until=None
    )
    await storage.close()


def test_restored_tells_its_progress_and_what_it_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite://{tmp_path}/store.db"
    asyncio.run(_make_queues_of_two_states(uri))
    monkeypatch.setenv("ZAQAR_STORE_URI", uri)
    monkeypatch.setattr(output, "PROGRESS_SECONDS", 0.0)

    result = run("restored")
    again = run("restored")

    assert result.exit_code == again.exit_code == 0
    assert result.stderr == "3 queues compared so far …\n"
    assert "mended: 1 without a record, 1 with other rules" in result.stdout
    assert "3 queues were compared with records and subscriptions; all fit." in again.stdout


def test_policy_list_prints_a_policy_file_with_every_rule_and_its_operations() -> None:
    printed = run("policy", "list").stdout

    assert (
        "\n# Post messages\n# POST  /v2/queues/{queue_name}/messages\n# POST  /v2/topics/"
        in printed
    )
    sample = yaml.safe_load(re.sub(r'^#(?=")', "", printed, flags=re.M))
    assert sample == {**BLOCKS, **{name: rule.default for name, rule in RULES.items()}}


def test_policy_list_shows_the_defaults_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAQAR_POLICY_DEFAULTS", "strict")

    listed = {rule["name"]: rule for rule in json.loads(run("policy", "list", "--json").stdout)}

    assert listed["messages:create"]["default"] == STRICT_CHECKS[Scope.WRITE]
    assert listed["ping:get"]["operations"][:2] == [
        {"method": "GET", "path": "/v2/ping"},
        {"method": "HEAD", "path": "/v2/ping"},
    ]


@pytest.mark.parametrize(
    ("text", "level"), [('"queues:get": "role:a"', "ok"), ('"queue:get": ""', "problem")]
)
def test_the_doctor_looks_at_the_policy_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, level: str
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    monkeypatch.setenv("ZAQAR_POLICY_FILE", str(path))

    findings = json.loads(run("doctor", "--data", str(tmp_path), "--json").stdout)

    [found] = [each for each in findings if each["check"] == "policy"]
    assert found["level"] == level
    assert str(path) in found["sentence"]


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ("", "On loopback every caller is believed. Elsewhere: Requests need a token"),
        ("none", "Every caller is believed to be any project"),
        ("token", "Requests need a token of this service"),
    ],
)
def test_the_doctor_says_which_callers_are_believed(
    auth: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAQAR_AUTH", auth)

    assert said in run("doctor", "--data", str(tmp_path)).stdout
