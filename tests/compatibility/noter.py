"""Notes the operations that tests call."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from api.exchange import Exchange
from api.push.exchange import FrameExchange
from tests.compatibility.notes import FOLLOWED, WEBSOCKET, Noted, Notes, notes_of
from tests.compatibility.page import named_tests


class Noter:
    """The notes of one process; of a run with several the first one brings them together."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._notes = Notes()
        self._answers: set[Noted] = set()
        self._has_failed = False
        self._named = named_tests()
        self._watch()

    def _watch(self) -> None:
        note, log = Exchange.note, FrameExchange.log

        def noting(exchange: Exchange, status: int) -> None:
            self._answers.add(Noted("", exchange._method, exchange.route, int(status)))
            note(exchange, status)

        def noting_frame(exchange: FrameExchange, action: str, status: int) -> None:
            self._answers.add(Noted("", WEBSOCKET, action, int(status)))
            log(exchange, action, status)

        Exchange.note = noting  # type: ignore[method-assign, assignment]
        FrameExchange.log = noting_frame  # type: ignore[method-assign, assignment]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._answers, self._has_failed = set(), False
        FOLLOWED.begin(_client_of(item))
        result = yield
        if not self._has_failed:
            self._notes.answers |= self._answers
            self._notes.passed |= {item.nodeid.partition("[")[0]} & self._named
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._has_failed = self._has_failed or not report.passed

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        result = yield
        self._answers |= FOLLOWED.taken()
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._notes.add(notes_of(getattr(node, "workeroutput", {}).get("operations", {})))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is None:
            self._notes.write(self._file)
        else:
            output["operations"] = self._notes.plain()


def _client_of(item: pytest.Item) -> str | None:
    """Whose calls to services in other processes are noted; None: nobody's."""
    mark = item.get_closest_marker("client")
    if mark is None or "caller" in getattr(item, "fixturenames", ()):
        return None
    return str(mark.args[0])
