-- What was deleted before its delay had ended: its job, when due, passes it by. `what` is the id of a
-- message; or the salt, in hex, of a life of the queue that ended by a purge or the queue's deletion.
CREATE TABLE cancellations (
    project TEXT NOT NULL,
    queue TEXT NOT NULL,
    what TEXT NOT NULL,
    cancelled_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (project, queue, what)
) WITHOUT ROWID;
CREATE INDEX expiring_cancellations ON cancellations (expires_at);
