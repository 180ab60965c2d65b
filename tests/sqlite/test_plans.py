"""The hot statements read their rows in order from an index: no scan of a table, no sorting."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tests.sqlite.opened import opened
from zaqar_notify.storage.sqlite import (
    cancelling,
    catalogue,
    encrypted,
    heads,
    records,
    shares,
    statements,
    stats,
    storage,
    subscriptions,
    suppressions,
    tokens,
)

NAMES = ("queue", "after", "project", "names", "now")
"""Of parameters."""

STATEMENTS = {
    "claim": statements.FREE_IN_ORDER,
    "page": statements.IN_ORDER[False, False],
    "page with claimed": statements.IN_ORDER[True, False],
    "page with delayed": statements.IN_ORDER[False, True],
    "page with all": statements.IN_ORDER[True, True],
    "message by its id": statements.OWN,
    "claimed message by its id": statements.OWN_CLAIMED,
    "message that moved, by its id": statements.MOVED,
    "whole message by its id": statements.WHOLE_OWN,
    "whole message that moved, by its id": statements.WHOLE_MOVED,
    "marker of a message that moved": statements.MOVED_POSITION,
    "fallen due": statements.FALLEN_DUE,
    "next due": statements.NEXT_DUE,
    "sweep of messages": storage.EXPIRED_MESSAGES,
    "subscriptions that are over": subscriptions.OVER,
    "page of subscriptions": subscriptions.AFTER,
    "longest subscription": subscriptions.LONGEST,
    "cancelled messages": cancelling.CANCELLED,
    "unapplied records": records.UNAPPLIED,
    "count of records": records.COUNT_OF_RECORDS,
    "count of a project's subscriptions": subscriptions.COUNT_OF_PROJECT,
    "count of a queue's subscriptions": subscriptions.COUNT_OF_QUEUE,
    "bytes of a project": stats.BYTES_OF_PROJECT,
    "bytes on internal queues": stats.BYTES_OF_NAMES,
    "subscriptions of a project": subscriptions.IDS_OF_PROJECT,
    "token by its digest": tokens.BY_DIGEST,
    "page of all tokens": tokens.ALL_TOKENS,
    "page of a project's tokens": tokens.TOKENS_OF_PROJECT,
    "count of a project's tokens": tokens.COUNT,
    "tokens that have expired": tokens.EXPIRED,
    "pool of a queue": catalogue.POOL,
    "queues of a pool": catalogue.OF_POOL,
    "doubted entries of the catalogue": catalogue.DOUBTED,
    "generation of a queue's shares": shares.GENERATION,
    "shares of a project": shares.OF_PROJECT,
    "suppression by its id": suppressions.BY_ID,
    "suppressions of a project": suppressions.OF_PROJECT,
    "keys of messages": encrypted.NEXT_KEY,
    "messages under a key": encrypted.UNDER_KEY,
    "keys of subscriptions": encrypted.NEXT_KEY_OF_SUBSCRIPTIONS,
    "live subscriptions under a key": encrypted.LIVE_UNDER_KEY,
    "subscriptions under a key": encrypted.SUBSCRIPTIONS_UNDER_KEY,
    "internal queues": heads.INTERNAL,
    "queues of clients": heads.OF_CLIENTS,
    "dropped heads": heads.FORGOTTEN,
}


@pytest.fixture
async def connection(tmp_path: Path) -> apsw.Connection:
    store = await opened(tmp_path / "store.db")
    await store.close()
    return apsw.Connection(str(tmp_path / "store.db"))


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_hot_statement_reads_an_index_in_order(
    connection: apsw.Connection, name: str
) -> None:
    plan = steps(connection, STATEMENTS[name])

    assert plan
    assert not [step for step in plan if "TEMP B-TREE" in step]
    scans = [step for step in plan if step.startswith("SCAN")]
    # A virtual table is a parameter that holds a list; a subquery has steps of its own.
    harmless = ("USING INDEX", "VIRTUAL TABLE", "(subquery")
    assert all(any(words in scan for words in harmless) for scan in scans)


async def test_a_sort_would_be_noticed(connection: apsw.Connection) -> None:
    plan = steps(connection, "SELECT * FROM messages ORDER BY posted_at")

    assert [step for step in plan if "TEMP B-TREE" in step]
    assert [step for step in plan if step.startswith("SCAN")]


def steps(connection: apsw.Connection, statement: str) -> list[str]:
    if "?1" in statement:
        bindings: tuple[int, ...] | dict[str, int] = (1, 1)
    else:
        bindings = (1,) * statement.count("?") or dict.fromkeys(NAMES, 1)
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", bindings)]
