-- At most one row: what the process's clock said when this computer had run so long since its start
-- `boot`, and what the host's clock said then; milliseconds.
CREATE TABLE clock (
    boot TEXT NOT NULL,
    running INTEGER NOT NULL,
    instant INTEGER NOT NULL,
    host INTEGER NOT NULL
);
