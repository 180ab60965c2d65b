-- The attempt of a move that may bring the queue to another pool; '': none may.
ALTER TABLE catalogue ADD COLUMN attempt TEXT NOT NULL DEFAULT '';
