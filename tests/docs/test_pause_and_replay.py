"""The page of pausing and replaying: its tour works, and its fields and limits are those of the code."""

from __future__ import annotations

from pathlib import Path

from api.v2 import schemas
from tests.docs.pages import named, read, rows, section
from tests.docs.tour import assert_every_block_is_run, play
from zaqar_notify.delivery.letters import ATTRIBUTES
from zaqar_notify.subscriptions.bulk import DEFAULT_PER_SECOND, MOST_PER_SECOND

PAGE = read("pause-and-replay.md")


def test_the_tour_prints_what_the_page_shows(tmp_path: Path) -> None:
    assert_every_block_is_run(PAGE)
    play(PAGE, tmp_path)


def test_every_field_of_a_replay_is_listed_with_its_limits() -> None:
    table = rows(section(PAGE, "## Replay"))

    fields = {name for row in table for name in named(row[0])}

    assert fields == set(schemas.NewReplay.__struct_fields__)
    assert [row[1] for row in table if named(row[0]) == ["per_second"]] == [
        f"1 to {MOST_PER_SECOND:,} ({DEFAULT_PER_SECOND})"
    ]


def test_every_attribute_of_a_letter_is_listed() -> None:
    table = rows(section(PAGE, "## Dead-letter queues of subscriptions"))

    assert {name for row in table for name in named(row[0])} == set(ATTRIBUTES)
