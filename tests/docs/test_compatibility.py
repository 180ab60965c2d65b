"""The page of compatibility names every operation, and tests that exist. `make compatibility` holds it to a run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compatibility.notes import Noted, Notes, read_notes
from tests.compatibility.page import (
    PAGE,
    ROOT,
    clients_of,
    clients_on_the_page,
    data,
    faults,
    matches,
    named_tests,
    render,
    served,
)


def noted(operation: str, status: int, client: str = "") -> Noted:
    method, path = operation.split(" ", 1)
    return Noted(client, method, path, status)


COMPLETE = Notes(
    {noted(one, status) for one, statuses in served().items() for status in statuses or {200}}
    | {
        noted(one, 200, client)
        for one, clients in clients_on_the_page(PAGE.read_text()).items()
        for client in clients
    },
    named_tests(),
)
"""The notes of a run that proves all that the page says."""


def test_the_page_is_what_the_data_make() -> None:
    page = PAGE.read_text()

    assert page == render(clients_on_the_page(page))
    assert faults(page, COMPLETE) == []


def test_every_pattern_of_the_data_is_of_an_operation() -> None:
    patterns = [data().added.operations, *(one.operations for one in data().differs)]

    for pattern in (each for some in patterns for each in some):
        assert any(matches(operation, [pattern]) for operation in served()), pattern
    for one in data().absent:
        assert not set(one.operations) & set(served())


@pytest.mark.parametrize("name", sorted(named_tests()))
def test_the_tests_that_it_names_exist(name: str) -> None:
    file, _, function = name.partition("::")

    assert re.search(rf"^(async )?def {function}\(", (ROOT / file).read_text(), re.M)


def test_an_operation_without_a_passing_test_is_a_fault() -> None:
    tested = COMPLETE.answers - {noted("DELETE /v2/queues/{queue_name}/share", 204)}

    assert faults(PAGE.read_text(), Notes(tested, COMPLETE.passed)) == [
        "No passing test calls DELETE /v2/queues/{queue_name}/share with all its successes"
    ]


def test_an_operation_without_one_of_its_successes_is_a_fault() -> None:
    answers = COMPLETE.answers - {noted("PUT /v1/queues/{queue_name}", 204)}

    assert len(faults(PAGE.read_text(), Notes(answers, COMPLETE.passed))) == 1


def test_a_test_of_a_difference_that_did_not_pass_is_a_fault() -> None:
    gone = min(named_tests())

    assert faults(PAGE.read_text(), Notes(COMPLETE.answers, named_tests() - {gone})) == [
        f"{gone} did not pass"
    ]


def test_a_client_that_did_not_call_is_a_fault() -> None:
    clients = {"GET /v2/queues": ["nobody"]}

    assert "No test of nobody calls GET /v2/queues" in faults(render(clients), COMPLETE)


def test_an_operation_that_is_in_no_row_is_a_fault() -> None:
    page = re.sub(r"^\| `WebSocket claim_get`.*\n", "", PAGE.read_text(), flags=re.M)

    assert faults(page, COMPLETE) == ["The page is not what `make compatibility` writes"]


def test_a_run_notes_the_calls_of_tests_that_pass(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(TWO_TESTS)
    file = tmp_path / "notes.json"

    # One process that tests, and one that brings notes together.
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "tests.compatibility.plugin"),
            *("-c", ROOT / "pyproject.toml", "--rootdir", tmp_path),
            *("--note-operations", file, tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert "1 failed, 1 passed" in ended.stdout, ended.stdout
    assert read_notes([file]).answers == {
        noted("PUT /v2/queues/{queue_name}", 201),
        noted("GET /v2/queues", 200),
    }


TWO_TESTS = """
from tests.api.conftest import api, start_api
from tests.conftest import clock

async def test_passes(api):
    await api.put("/v2/queues/q")
    await api.get("/v2/queues")

async def test_fails(api):
    await api.delete("/v2/queues/q")
    assert False
"""


def test_notes_of_several_runs_come_together(tmp_path: Path) -> None:
    one = noted("GET /v2/queues", 200, "gophercloud")
    Notes({one}).write(tmp_path / "one.json")
    Notes({noted("WebSocket queue_list", 200)}, {"a"}).write(tmp_path / "other.json")

    notes = read_notes(tmp_path.glob("*.json"))

    assert len(notes.answers) == 2
    assert notes.passed == {"a"}
    assert clients_of(notes) == {"GET /v2/queues": {"gophercloud"}}
