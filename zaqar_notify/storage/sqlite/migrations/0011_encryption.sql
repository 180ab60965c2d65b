-- The id of the key that encrypted the body; NULL: it is clear.
ALTER TABLE messages ADD COLUMN key_id TEXT;
-- Which keys are in use, and the messages under each: a change of keys, and the doctor.
CREATE INDEX encrypted_messages ON messages (key_id) WHERE key_id IS NOT NULL;

-- Of a subscription, its subscriber and its options are encrypted together; `subscriber` is then a digest.
ALTER TABLE subscriptions ADD COLUMN key_id TEXT;
CREATE INDEX encrypted_subscriptions ON subscriptions (key_id) WHERE key_id IS NOT NULL;
