"""The record of a crash test that fails."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from tests.faults.history import History
from tests.faults.trial import Trial

SEED = 769004807


async def test_a_trial_that_fails_keeps_history_and_logs_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    log = tmp_path / "service.log"
    log.write_text("what the service said")
    trial = Trial(SEED, seconds=1)
    trial.record("process killed")

    with pytest.raises(AssertionError, match="a promise was broken"):
        async with trial.kept_when_it_fails(lambda: [log]):
            raise AssertionError("a promise was broken")

    said = re.search(rf"seed {SEED}: .* in (\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert said is not None
    history = Path(said[1])
    assert history.parent.parent == tmp_path
    assert len(trial.history.events) == 1
    assert History.read(history).events == trial.history.events
    assert (history.parent / "0-service.log").read_text() == "what the service said"
