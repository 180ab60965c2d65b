-- A queue that came from another store goes on behind the positions that were given there. `came_by` is the move
-- that brought it.
ALTER TABLE queues ADD COLUMN next_position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queues ADD COLUMN came_by TEXT NOT NULL DEFAULT '';
-- Queues that are read to be written to another store, and their changes since that began: the position of
-- a message, an idempotency key, or what was cancelled. Triggers fill it, which exist for as long as there is such a queue.
CREATE TABLE transfers (
    number INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL
);
CREATE TABLE transfer_changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL,
    position INTEGER,
    key TEXT,
    cancelled TEXT
);
CREATE INDEX transfer_changes_of_queues ON transfer_changes (number, sequence);
