-- Each rotation of a secret has an overlap of its own: a JSON array with the number of each former secret that signs, too,
-- and its end, milliseconds since 1970.
ALTER TABLE subscriptions ADD COLUMN former_secrets TEXT NOT NULL DEFAULT '[]';
