-- Records of clients' queues belong to the control plane; `queues` keeps what posts and claims must know.
-- A record is unapplied from a change on until its queue's head is of its revision.
CREATE TABLE records (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    unapplied INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project, name)
) WITHOUT ROWID;
CREATE INDEX unapplied_records ON records (project, name) WHERE unapplied;
INSERT INTO records (project, name, metadata, created_at, revision, unapplied)
    SELECT project, name, metadata, created_at, 1, 0 FROM queues WHERE project != '';

-- The rules are those keys of the metadata that posts and claims obey.
ALTER TABLE queues ADD COLUMN rules TEXT NOT NULL DEFAULT '{}';
UPDATE queues SET rules = (
    SELECT json_group_object(key, json(value)) FROM (
        SELECT key, CASE type WHEN 'text' THEN json_quote(atom) WHEN 'null' THEN 'null' ELSE atom END AS value
        FROM json_each(queues.metadata)
        WHERE key IN ('_max_messages_post_size', '_default_message_ttl', '_default_message_delay',
            '_dead_letter_queue', '_dead_letter_queue_messages_ttl', '_max_claim_count')
    )
) WHERE metadata != '{}';
ALTER TABLE queues ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
-- No subscription of the queue lives longer; 0: there is none. `turn` changes when it is raised.
ALTER TABLE queues ADD COLUMN subscribed_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE queues ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
UPDATE queues SET subscribed_until = coalesce((
    SELECT max(expires_at) FROM subscriptions s WHERE s.project = queues.project AND s.queue = queues.name
), 0);
-- When the queue was deleted; its revision is remembered for a day.
ALTER TABLE queues ADD COLUMN dropped_at INTEGER;
CREATE INDEX dropped_heads ON queues (dropped_at) WHERE dropped_at IS NOT NULL;
ALTER TABLE queues DROP COLUMN metadata;
ALTER TABLE queues DROP COLUMN created_at;

-- Until when a queue has a subscription, and which of its subscriptions are over.
CREATE INDEX lives_of_subscriptions ON subscriptions (project, queue, expires_at);
