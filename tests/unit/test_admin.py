"""The socket on which `up` runs commands of its operator."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from tests.clock import ManualClock
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.admin import (
    MOST_REQUEST_BYTES,
    SOCKET,
    Command,
    Site,
    Tell,
    ask,
    serving_commands,
)
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage

NOWHERE = cast(Site, None)


class Number(msgspec.Struct):
    value: int


class Done(Exception):
    pass


async def double(_site: Site, given: Number, tell: Tell) -> int:
    for part in range(given.value):
        tell(f"{part} of {given.value}")
    return 2 * given.value


async def refuse(_site: Site, given: Number, tell: Tell) -> int:
    raise StartRefused(f"{given.value} is too much")


async def fail(_site: Site, given: Number, tell: Tell) -> int:
    raise Done


DOUBLE = Command("double", Number, int, double)
REFUSE = Command("refuse", Number, int, refuse)
FAIL = Command("fail", Number, int, fail)
UNKNOWN = Command("unknown", Number, int, double)
RECORDED = Command("recorded", Number, int, double, lambda given: {"rule": "numbers:double"})


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[Path]:
    async with serving_commands(NOWHERE, (DOUBLE, REFUSE, FAIL), tmp_path):
        yield tmp_path


async def asked(data: Path, command: Command[Number, int], value: int = 3) -> tuple[Any, list[str]]:
    told: list[str] = []
    return await asyncio.to_thread(ask, data, command, Number(value), told.append), told


async def raw_answer(data: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(data / SOCKET))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_command_tells_how_far_it_is_and_answers(data: Path) -> None:
    assert await asked(data, DOUBLE) == (6, ["0 of 3", "1 of 3", "2 of 3"])


async def test_only_the_user_of_the_directory_may_ask(data: Path) -> None:
    assert stat.S_IMODE((data / SOCKET).stat().st_mode) == 0o600


async def test_a_refusal_reaches_the_operator(data: Path) -> None:
    with pytest.raises(StartRefused, match="3 is too much"):
        await asked(data, REFUSE)


async def test_a_defect_is_logged_and_the_operator_is_sent_to_the_log(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StartRefused, match="the log of the process"):
        await asked(data, FAIL)

    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is Done


async def test_a_command_of_another_release_is_refused(data: Path) -> None:
    with pytest.raises(StartRefused, match="no command 'unknown'"):
        await asked(data, UNKNOWN)


@pytest.mark.parametrize(
    "request_line",
    [
        b"\n",
        b"not JSON\n",
        b"[]\n",
        b'{"command": "double"}\n',
        b'{"command": "double", "given": {"value": "x"}}\n',
        b"\xff\n",
    ],
)
async def test_nonsense_is_refused_and_the_next_request_answered(
    data: Path, request_line: bytes
) -> None:
    assert b"does not understand" in await raw_answer(data, request_line)
    assert (await asked(data, DOUBLE))[0] == 6


async def test_a_request_without_end_is_cut_off(data: Path) -> None:
    with contextlib.suppress(ConnectionError):
        assert await raw_answer(data, b"x" * (2 * MOST_REQUEST_BYTES)) == b""
    assert (await asked(data, DOUBLE))[0] == 6


async def test_a_command_ends_when_its_operator_hangs_up(tmp_path: Path) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def run_long(_site: Site, given: Number, tell: Tell) -> int:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    async with serving_commands(NOWHERE, [Command("long", Number, int, run_long)], tmp_path):
        _, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        writer.write(b'{"command": "long", "given": {"value": 1}}\n')
        await began.wait()
        writer.close()

        await asyncio.wait_for(ended.wait(), 10)


async def test_a_directory_with_a_long_name_has_a_socket_too(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 120)
    data.mkdir()

    async with serving_commands(NOWHERE, [DOUBLE], data):
        assert (await asked(data, DOUBLE))[0] == 6


async def test_the_socket_of_a_killed_process_answers_nobody_and_is_replaced(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / SOCKET))
    assert await asked(tmp_path, DOUBLE) == (None, [])

    async with serving_commands(NOWHERE, [DOUBLE], tmp_path):
        assert (await asked(tmp_path, DOUBLE))[0] == 6
    assert not (tmp_path / SOCKET).exists()


@pytest.mark.parametrize("is_wanted", [False, True])
async def test_a_change_is_recorded_only_if_the_audit_is_on(
    is_wanted: bool, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(cast(Storage, None), Settings(audit=is_wanted), clock)

    assert await RECORDED.perform(site, Number(1), lambda _: None) == 2

    rules = [record.__dict__["rule"] for record in caplog.records]
    assert rules == ["numbers:double"] * is_wanted


async def test_nobody_answers_where_nobody_serves(tmp_path: Path) -> None:
    assert await asked(tmp_path / "absent", DOUBLE) == (None, [])


async def test_a_process_that_can_make_no_socket_serves_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / SOCKET).mkdir()

    async with serving_commands(NOWHERE, [DOUBLE], tmp_path):
        pass

    assert [record.__dict__["action"] for record in caplog.records] == ["admin_not_served"]
