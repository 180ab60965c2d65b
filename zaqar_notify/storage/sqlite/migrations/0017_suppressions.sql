-- Addresses that get nothing more from a project. The id is a digest of the address.
CREATE TABLE suppressions (
    project TEXT NOT NULL,
    id TEXT NOT NULL,
    subscriber TEXT NOT NULL,
    queue TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    suppressed_at INTEGER NOT NULL,
    PRIMARY KEY (project, id)
) WITHOUT ROWID;
