"""The SQLite driver: one file, one process, no other service.

Every write commits with `synchronous=FULL` in WAL mode, so acknowledged writes survive the loss
of the process and of power, as far as the disk honours fsync. One process owns the file (a lock
beside it says so); one connection of it writes, others read.

    driver.py         the facts of a store that is not open yet
    migrations/       the tables and the indexes, step by step
    opening.py        opening and locking the file; the refusals of a start
    recognizing.py    whether a path holds a database of ours
    diagnosis.py      the questions of the doctor
    timekeeping.py    the process's clock, which goes on over restarts
    reserve.py        room that is kept for a full disk
    checkpointing.py  the write-ahead log, copied into the database
    files.py          whether the open files are still the ones at their names
    database.py pending.py    reads, and writes in batches
    slow_reads.py     turns of the reads that take long
    failures.py       SQLite's errors, and ours
    control.py        the control store put together
    records.py        the control store: queues' records
    subscriptions.py  the control store: subscriptions
    shares.py         the control store: revocations of pre-signed URLs
    suppressions.py   the control store: addresses that get nothing more from a project
    pools.py          the control store: pools and flavors
    catalogue.py      the control store: which pool has a queue
    tokens.py         the control store: tenant tokens
    quotas.py         the control store: projects' own quotas
    heads.py messages.py claims.py    the message store
    appending.py      rows at the end of queues
    deleting.py       deletions by id
    dead_letters.py   messages that were claimed too often leave their queue
    queue_rows.py     the queues that have a head, cached
    numbering.py      serial numbers and positions
    removals.py       deletions that are noted, and taken out later
    cancelling.py     messages that were deleted before they were due
    message_rows.py   between rows and messages
    rows.py           instants, ids, JSON and subscriptions in rows
    statements.py     the statements on the tables of messages
    scanning.py       looks at the first free messages of a queue, for claims and pops
    watches.py        callers that wait for a queue, inside this process
    stats.py          counting messages
    transfer.py       queues that move from and to another store: transfer_noting.py notes their changes,
                      transfer_arrivals.py writes those that come, transfer_rows.py has rows and statements
    encrypted.py      what is encrypted, by its keys
    storage.py        the message store put together
"""

from zaqar_notify.storage.sqlite.storage import SQLiteStore

__all__ = ["SQLiteStore"]
