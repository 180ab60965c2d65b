-- A secret that was rotated again signs until its own overlap ends: all late rotations are kept, as a
-- JSON array of milliseconds since 1970, in order.
ALTER TABLE subscriptions ADD COLUMN secret_rotations TEXT NOT NULL DEFAULT '[]';
UPDATE subscriptions SET secret_rotations = json_array(secret_rotated_at)
    WHERE secret_rotated_at IS NOT NULL;
ALTER TABLE subscriptions DROP COLUMN secret_rotated_at;
