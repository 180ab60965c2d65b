"""The hands that make a crash test's faults."""

from __future__ import annotations

import os
import signal

from tests.faults.faults import RECOVERY_SECONDS, make_whole
from tests.mongod import ReplicaSet, require_mongod


def test_a_member_of_the_store_that_hangs_is_started_again() -> None:
    require_mongod()
    store = ReplicaSet(3)
    try:
        store.start()
        assert not make_whole(store, patience=RECOVERY_SECONDS)
        primary = store.wait_for_primary()
        assert primary.process is not None
        hanging = primary.process
        os.kill(hanging.pid, signal.SIGSTOP)

        assert make_whole(store, patience=3)

        assert primary.process is not hanging
        assert not make_whole(store, patience=RECOVERY_SECONDS)
    finally:
        store.stop()
