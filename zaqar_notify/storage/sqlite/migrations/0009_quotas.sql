-- Quotas that a project has of its own; the others are defaults.
CREATE TABLE quotas (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) WITHOUT ROWID;
-- One row: how many changes there were.
CREATE TABLE quota_changes (revision INTEGER NOT NULL);
INSERT INTO quota_changes VALUES (0);
