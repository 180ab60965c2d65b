-- A message's position is its place in its own queue; its serial number is of the whole file, in the
-- order of commits, and is what the other tables know it by. Positions of versions before were serial numbers:
-- they stay, and so do the ids that were made of them, 16 hex digits each.

-- Ids of a queue end with its salt; a new one each time it is purged or comes back.
ALTER TABLE queues ADD COLUMN salt BLOB NOT NULL DEFAULT x'';
UPDATE queues SET salt = randomblob(4);

-- The state of a message. Its body is apart, so that claiming and releasing never rewrite it.
-- A message is in exactly one of three states, each with an index that keeps its order:
--   free      held_until NULL
--   claimed   claim names the lease, held_until is its end
--   delayed   claim NULL, held_until is the delay's end
CREATE TABLE new_messages (
    serial INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    position INTEGER NOT NULL,
    client TEXT NOT NULL,
    ttl INTEGER NOT NULL,
    posted_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    held_until INTEGER,
    claim TEXT,
    claim_count INTEGER NOT NULL DEFAULT 0,
    -- The id of a message that was moved here from another queue.
    moved_id TEXT,
    checksum TEXT
);
INSERT INTO new_messages
    SELECT position, queue, position, client, ttl, posted_at, expires_at, held_until, claim, claim_count,
        CASE WHEN moved_id IS NOT NULL THEN printf('%016x', moved_id) END, checksum
    FROM messages ORDER BY position;
DROP TABLE messages;
ALTER TABLE new_messages RENAME TO messages;

-- Claims and pages read the first free messages of a queue; ids are looked up in all three.
CREATE INDEX free_messages ON messages (queue, position) WHERE held_until IS NULL;
-- Pages that include claimed or delayed messages merge these with the free ones.
CREATE INDEX claimed_messages ON messages (queue, position) WHERE claim IS NOT NULL;
CREATE INDEX delayed_messages ON messages (queue, position)
    WHERE held_until IS NOT NULL AND claim IS NULL;
-- Held messages by the instant at which they become free.
CREATE INDEX held_messages ON messages (queue, held_until) WHERE held_until IS NOT NULL;
-- The sweep's. Claimed messages outlive their claims, whose sweep frees them first.
CREATE INDEX expiring_messages ON messages (expires_at) WHERE claim IS NULL;
CREATE UNIQUE INDEX moved_messages ON messages (queue, moved_id) WHERE moved_id IS NOT NULL;

ALTER TABLE bodies RENAME COLUMN position TO serial;
ALTER TABLE removals RENAME COLUMN position TO serial;
ALTER TABLE claims RENAME COLUMN positions TO serials;

-- With the salt of the queue's life in which the post was made; NULL for ids of versions before.
ALTER TABLE remembered_posts ADD COLUMN salt BLOB;

-- One row: serial numbers below `serials` may be in use, or have been; so may positions of milliseconds
-- before `positions_until`.
ALTER TABLE positions RENAME TO numbering;
ALTER TABLE numbering RENAME COLUMN ceiling TO serials;
ALTER TABLE numbering ADD COLUMN positions_until INTEGER NOT NULL DEFAULT 0;
