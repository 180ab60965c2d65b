-- Why the deliveries of a subscription are held, and since when its receiver only fails (ms since 1970).
ALTER TABLE subscriptions ADD COLUMN disabled_reason TEXT;
ALTER TABLE subscriptions ADD COLUMN disabled_detail TEXT NOT NULL DEFAULT '';
ALTER TABLE subscriptions ADD COLUMN failing_since INTEGER;
