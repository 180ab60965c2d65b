-- Tenant tokens. The digest is the SHA-256 of the secret; instants are milliseconds.
-- A token of the scope operator may have no project.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    project TEXT,
    scope TEXT NOT NULL,
    queues TEXT,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER
) WITHOUT ROWID;
CREATE INDEX tokens_of_projects ON tokens (project, id);
CREATE INDEX expiring_tokens ON tokens (expires_at) WHERE expires_at IS NOT NULL;
