"""How many files a process gives itself."""

from __future__ import annotations

import resource

import pytest

from zaqar_notify.files import attainable_files, raise_file_limit

ANY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "files"),
    [
        (1024, 4096, 4096),
        (1024, 1_000_000, 65_536),
        (1024, ANY, 65_536),
        (100_000, 1_000_000, 100_000),
        (ANY, ANY, None),
    ],
)
def test_a_process_asks_for_what_it_may_have_and_lowers_nothing(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, files: int | None
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))

    raise_file_limit()

    assert attainable_files() == files
    assert asked == ([] if files in {None, soft} else [(files, hard)])
