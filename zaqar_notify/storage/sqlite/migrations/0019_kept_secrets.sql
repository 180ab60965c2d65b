-- Each rotation of a secret has an overlap of its own, and a client can give a secret. A JSON array has for each secret that
-- is kept its number, its end in milliseconds since 1970, and the encrypted text of one that a client gave, else ''.
ALTER TABLE subscriptions ADD COLUMN kept_secrets TEXT NOT NULL DEFAULT '[]';
