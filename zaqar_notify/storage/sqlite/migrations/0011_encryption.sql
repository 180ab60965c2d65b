-- The id of the key that encrypted the body; NULL: it is clear.
ALTER TABLE messages ADD COLUMN key_id TEXT;
-- Which keys are in use, and the messages under each: a change of keys, and the doctor.
CREATE INDEX encrypted_messages ON messages (key_id) WHERE key_id IS NOT NULL;
