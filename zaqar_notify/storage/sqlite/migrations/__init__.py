"""The schema, as the steps that lead to it. `user_version` of a file says how many it has taken.

A new file takes all of them, one that an earlier release wrote takes those it lacks, while the process
holds the lock beside it. Each step is a transaction: a process that dies in it leaves the file as it
was. How to add one: docs/add-a-driver.md.

    0001_first.sql               the tables and the indexes
    0002_secret_rotations.sql    subscriptions keep each late rotation of their secret
    0003_positions.sql           positions of each queue's own; the present form of `messages`, and which
                                 query each of its indexes serves
    0004_parked.sql              subscriptions say whether deliveries are parked for them
    0005_cancellations.sql       what was deleted before it was due
    0006_clock.sql               how the clock goes on at the next start
    0007_planes.sql              records apart from what posts and claims must know of a queue
    0008_tokens.sql              tenant tokens
    0009_quotas.sql              quotas that projects have of their own
    0010_shares.sql              queues whose pre-signed URLs were revoked
    0011_encryption.sql          which key encrypted a message, or a subscription
    0012_pools.sql               pools and flavors
    0013_catalogue.sql           which pool has a queue; the identity of the store
    0014_transfers.sql           queues that move to another store, or came from one
    0015_moves.sql               which attempt of a move may change the pool of a queue
    0016_attributes.sql          attributes may stand before bodies; it changes nothing
    0017_suppressions.sql        addresses that get nothing more from a project
    0018_states.sql              why the deliveries of a subscription are held
    0019_kept_secrets.sql        each former secret of a subscription has an end of its own, and clients give secrets
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TypeAlias

import apsw

from zaqar_notify.storage.versions import log_migrated, refuse_later

Step: TypeAlias = Callable[[apsw.Connection], None]
"""Changes the tables and what is in them, from the version before to its own."""

APPLICATION_ID = 0x5A51524E  # "ZQRN", shown by file(1)


def _run_file(name: str, db: apsw.Connection) -> None:
    db.execute(resources.files(__name__).joinpath(name).read_text())


STEPS: tuple[Step, ...] = (
    partial(_run_file, "0001_first.sql"),
    partial(_run_file, "0002_secret_rotations.sql"),
    partial(_run_file, "0003_positions.sql"),
    partial(_run_file, "0004_parked.sql"),
    partial(_run_file, "0005_cancellations.sql"),
    partial(_run_file, "0006_clock.sql"),
    partial(_run_file, "0007_planes.sql"),
    partial(_run_file, "0008_tokens.sql"),
    partial(_run_file, "0009_quotas.sql"),
    partial(_run_file, "0010_shares.sql"),
    partial(_run_file, "0011_encryption.sql"),
    partial(_run_file, "0012_pools.sql"),
    partial(_run_file, "0013_catalogue.sql"),
    partial(_run_file, "0014_transfers.sql"),
    partial(_run_file, "0015_moves.sql"),
    partial(_run_file, "0016_attributes.sql"),
    partial(_run_file, "0017_suppressions.sql"),
    partial(_run_file, "0018_states.sql"),
    partial(_run_file, "0019_kept_secrets.sql"),
)
"""In their order: the first one makes version 1."""

SCHEMA_VERSION = len(STEPS)


def migrate(db: apsw.Connection, path: Path) -> None:
    """Bring the file, which is ours or new, to this release's version.

    Raises:
        StartRefused: A later release wrote it.
    """
    version: int = db.pragma("user_version")
    refuse_later(str(path), version, len(STEPS))
    for number, step in enumerate(STEPS[version:], version + 1):
        with db:
            step(db)
            db.pragma("application_id", APPLICATION_ID)
            db.pragma("user_version", number)
        if version:
            log_migrated(str(path), number)
