"""The Redis driver: Redis 6.2 and later, Valkey, and clusters of them.

Every write is a script, which is atomic, and is on the disk before its answer (`appendfsync always`). So the order of
commits is that of the scripts, and no reader ever passes a position that is filled later.

The keys of a store begin with its prefix; the keys of a queue have its hash tag (`keys.py`), here `T` for those of a
tag and `q` for `T:q:PROJECT/NAME`:

    T:store              hash, of tag 0: version, tags
    T:clients T:internal sorted sets: the names of the queues that have a head
    T:due                sorted set: queues by the next instant at which the sweep has something to do there
    T:sealed             sorted set: queues with encrypted messages
    T:parcels T:parcelled T:received    messages on their way to another tag (`parcels.py`)
    T:duties             hash: until when each periodic duty is taken
    T:proof T:probe      of proofs that writes are taken
    q:head               hash: rules, revision, until, turn, salt, ms and count of the last position, freed (a count
                         of how often messages became free), dropped_at
    q:records q:states   hashes by position: the record of a message (`records.py`); its claim count and claim
    q:free q:claimed q:delayed    sorted sets: the positions of messages in each state, in order
    q:held q:expiring    sorted sets: positions by the instant at which a hold, or the message, ends
    q:claims q:leases    hash and sorted set: claims with their positions; by their ends
    q:moved              hash: ids that messages brought from other queues, both ways
    q:sealed             sorted set: "KEY:POSITION" of encrypted messages
    q:answers q:answering    hash and sorted set: answers by idempotency key; keys by their ends
    q:cancelled          sorted set: what was deleted before it was due, by when it was to be due at the latest
    q:ended              hash: by salt, when a life of the queue ended of which something was cancelled
    q:changes            sorted set: what changes while the queue is being moved

A change of a queue is published on the channel `q`: "SENDER VISIBLE HELD_UNTIL".

    driver.py         the facts of a store that is not open yet
    connection.py     the client, and the patience with servers that refuse for now
    failures.py       the library's errors, and ours
    deployment.py diagnosis.py    the checks of a start and of the doctor
    founding.py       what was decided when the store was made
    keys.py           names of keys, and hash tags
    scripts.py lua/   the scripts
    batches.py        operations of many callers, run together
    records.py        messages in scripts' answers, and ours
    heads.py posting.py messages.py claims.py    the message store
    parcels.py        messages that go to a queue of another tag
    scanning.py       where looks for visible messages begin
    watches.py listening.py    callers that wait for a queue
    transfer.py transfer_parts.py    moves of whole queues to other stores
    encrypted.py      what is encrypted, by its keys
    storage.py        the message store put together; the sweep
    control/          the control store
"""

from zaqar_notify.storage.redis.storage import RedisStore

__all__ = ["RedisStore"]
