-- The replay that delivers what is parked for the subscription, while something is.
ALTER TABLE subscriptions ADD COLUMN replay_id TEXT;
