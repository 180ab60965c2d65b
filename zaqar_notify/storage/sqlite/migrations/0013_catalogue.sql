-- Which pool has a queue. `doubted_at`: since when there may be no such queue.
CREATE TABLE catalogue (
    project TEXT NOT NULL,
    queue TEXT NOT NULL,
    pool TEXT NOT NULL,
    doubted_at INTEGER,
    PRIMARY KEY (project, queue)
) WITHOUT ROWID;
CREATE INDEX entries_of_pools ON catalogue (pool, project, queue);
CREATE INDEX doubted_entries ON catalogue (doubted_at) WHERE doubted_at IS NOT NULL;

-- One row: by which the store is known for the same under another path.
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity VALUES (lower(hex(randomblob(16))));
