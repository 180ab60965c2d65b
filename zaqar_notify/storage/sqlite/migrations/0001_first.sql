-- Instants are whole milliseconds since 1970; ttl, like everywhere, is seconds.

CREATE TABLE queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (project, name)
);

-- Former ids of queues that were deleted or purged; the sweep removes their messages.
CREATE TABLE dropped_queues (id INTEGER PRIMARY KEY);

-- The state of a message. Its body is apart, so that claiming and releasing never rewrite it.
-- A message is in exactly one of three states, each with an index that keeps its order:
--   free      held_until NULL
--   claimed   claim names the lease, held_until is its end
--   delayed   claim NULL, held_until is the delay's end
CREATE TABLE messages (
    position INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    client TEXT NOT NULL,
    ttl INTEGER NOT NULL,
    posted_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    held_until INTEGER,
    claim TEXT,
    claim_count INTEGER NOT NULL DEFAULT 0,
    -- The position that is its id, of a message that was moved here from another queue.
    moved_id INTEGER,
    checksum TEXT
);

-- Claims and pages read the first free messages of a queue.
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

CREATE TABLE bodies (
    position INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

-- positions: the messages the claim was made of, 8 bytes each; those it still holds name it.
CREATE TABLE claims (
    id TEXT PRIMARY KEY,
    queue INTEGER NOT NULL,
    ttl INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    positions BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX expiring_claims ON claims (expires_at);

-- By project and queue name, not queue id: they outlive the queue's deletion.
CREATE TABLE subscriptions (
    project TEXT NOT NULL,
    queue TEXT NOT NULL,
    id TEXT NOT NULL,
    subscriber TEXT NOT NULL,
    ttl INTEGER NOT NULL,
    options TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    disabled_at INTEGER,
    secret_generation INTEGER NOT NULL,
    secret_rotated_at INTEGER,
    PRIMARY KEY (project, queue, id),
    UNIQUE (project, queue, subscriber)
) WITHOUT ROWID;
CREATE INDEX expiring_subscriptions ON subscriptions (expires_at);

-- Answers to posts that carried an Idempotency-Key: count messages from first_position on.
CREATE TABLE remembered_posts (
    project TEXT NOT NULL,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    first_position INTEGER NOT NULL,
    count INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (project, queue, key)
) WITHOUT ROWID;
CREATE INDEX expiring_remembered_posts ON remembered_posts (expires_at);

-- Messages that are deleted, and still in the tables above.
CREATE TABLE removals (position INTEGER PRIMARY KEY);

-- One row: positions below it may be in use, or have been.
CREATE TABLE positions (ceiling INTEGER NOT NULL);
INSERT INTO positions VALUES (1);
