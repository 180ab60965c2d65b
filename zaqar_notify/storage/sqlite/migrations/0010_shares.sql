-- Queues whose pre-signed URLs were revoked: only URLs of the last generation count. A queue '' is all of the project.
CREATE TABLE shares (
    project TEXT NOT NULL,
    queue TEXT NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (project, queue)
) WITHOUT ROWID;
