"""The MongoDB driver: a replica set or a sharded cluster, any number of processes.

A majority acknowledges each write and journals it; reads go to the primary. So acknowledged writes
survive the loss of any process of ours and of a minority of the set's members.

    driver.py         the facts of a store that is not open yet
    connection.py     the client and the collections
    indexes.py        the indexes
    deployment.py     the checks of a start: the URI's promises, servers, account, foreign databases
    diagnosis.py      the questions of health and doctor
    failures.py       the library's errors, and ours
    migrations/       steps that change documents of an earlier release
    documents.py      between documents and models; ids and positions
    subscription_documents.py    between documents and subscriptions
    blocks.py         blocks of positions, and how they end: seals and fences (docs/decisions/0004)
    queue_states.py   queues' documents: read in batches, and how far a queue can be read
    reserving.py      reservations of blocks
    post_batch.py     the documents of one batch of posts
    posting.py        batches of posts: reserve, insert, acknowledge
    jobs.py           places for jobs on internal queues
    remembering.py    posts under an idempotency key
    paging.py         pages, and reads by id
    deleting.py       deletions by id
    popping.py        messages that are taken and removed in one
    cancelling.py     messages that were deleted before they were due, or left behind
    dead_letters.py   messages that were claimed too often move to another queue
    leasing.py        the free messages of a queue, and leases on them
    control.py        the control store put together
    records.py        the control store: queues' records
    subscriptions.py  the control store: subscriptions
    quotas.py         the control store: projects' own quotas
    tokens.py         the control store: tenant tokens
    shares.py         revocations of pre-signed URLs
    suppressions.py   addresses that get nothing more from a project
    pools.py          the control store: pools and flavors
    catalogue.py      the control store: which pool has a queue
    heads.py messages.py claims.py    the message store
    encrypted.py      what is encrypted, by its keys
    stats.py          counting messages
    transfer.py       queues that move from and to another store; transfer_changes.py notes their changes by a
                      change stream, transfer_documents.py is between documents and parts of a queue
    watches.py        callers that wait for a queue
    storage.py        the message store put together, and the sweep

Collection `records`; one document for each queue of a client. Shard key `_id`.

    _id               project, NUL, name
    metadata          JSON text
    created_at        instant
    revision          raised by each change
    unapplied         true from a change on until the queue's head is of its revision

    _id               get; list and count of a project's queues by range
    unapplied         (sparse) the sweep

Collection `queues`; one document a queue, kept a day after the queue's deletion. Shard key `_id`.

    _id               project, NUL, name
    queue             12 random bytes that its messages carry; new ones when it is purged or deleted
    rules             metadata that posts and claims obey, JSON text; null: the queue has no head
    revision          of the record that the rules are of, or at which the head was dropped
    next              the lowest position that no post was given
    in_flight         one slot per writer: {first, size, after, deadline} of its last block
    subscribed_until  no subscription lives longer than this
    subscribers_turn  changes when `subscribed_until` is raised, so that no process lowers it again
    turns             counts releases, for callers that wait in other processes
    dropped           former values of `queue`, whose messages are to be removed
    unused_since      since when there is no such queue
    came_by           the move that brought the queue from another store
    awaits            the move that is about to bring it

    _id               get, reserve; internal queues by range
    dropped           (sparse) the sweep
    unused_since      (sparse) the sweep

Collection `messages`. Shard key `queue`, in every query of a request. It holds also the seals and
fences of blocks, which have no `due` and are no part of any reading, and remembered posts.

    _id               queue and position: 12 and 8 bytes, so that its order is the queue's order
    queue, client, ttl, posted_at, expires_at, claim_count, checksum
    due               0: among the free; otherwise minus the millisecond at which it falls due
    held_until        the millisecond at which its claim or delay ends, or ended; 0: never held
    claim, claim_ttl  the claim of that hold, if it is one
    moved_id          the id of a message that comes from another queue
    leaving           its move to this dead-letter queue has begun: {queue, ttl}
    reclaim_at        of seals and fences: when the server removes them by itself
    fence             marks a document in the place of a seal, or of a first message
    cancelled         marks a document in the place of a message that was deleted before it was due;
                      kept for CANCELLED_KEPT
    kept              of a message from another queue: a later move relies on it
    body              with the attributes before it, if there are any (`storage/packing.py`)
    key_id            the key that encrypted the body; the checksum is then in the body, too

    _id                       pages that include held messages, reads and deletes by id
    queue, due, _id           claims, pops, pages: messages that fell due, then free ones, in order;
                              the earliest instant at which something falls due; counts
    queue, claim, held_until  (partial) the messages of a claim; how many are claimed
    queue, moved_id           (partial, unique) messages from other queues by id
    queue, cancelled          (partial, by queue) whether anything was cancelled, when a queue is purged
    expires_at                the sweep
    key_id, _id               (partial) which keys are in use, and the messages under each
    reclaim_at                (TTL, partial) seals, fences and notes of cancelled messages

    remembered posts: _id is a digest of project, queue and key (32 bytes), `queue` one of project and
    queue (12 bytes); fingerprint, first and count of its messages, the block they are in, expires_at; `stored`
    of one that came from another store, and is in no block

    ended lives: of a queue that was purged or deleted with messages that were delayed. _id is a digest of
    project, queue and salt, `queue` as of remembered posts; former (the `queue` of that life), at

Collection `subscriptions`. Shard key `queue` (the `_id` of the queue's document).

    _id               `queue`, NUL, the subscription's id: lists in order of id
    queue, subscriber (unique)
    queue, expires_at how long the queue has a subscription
    key_id, _id       (partial) which keys are in use, and the subscriptions under each. Of one with a key,
                      `options` is an envelope that holds the subscriber, too, and `subscriber` a digest
    expires_at        the sweep

Collection `duties`: the process that has its turn with a periodic duty. If it is lost, two may do it at once.

    _id               the duty; or `proof`, of the writes that show whether any are acknowledged
    until             instant from which any process may take it

Collection `quotas`: one document for each project that has quotas of its own, and one with `_id` "".

    _id               the project
    own               values by the names of quotas
    revision          of the document "": how many changes there were

Collection `shares`: one document for each queue whose pre-signed URLs were revoked.

    _id               project, NUL, name; without a name of all queues of the project
    generation        only URLs of this one count

    _id               get; a project's records by range

Collection `suppressions`: one document for each address that gets nothing more from a project.

    _id               project, NUL, digest of the address
    subscriber        its scheme and domain
    queue, subscription_id    of the link by which its owner unsubscribed
    suppressed_at

    _id               get; a project's suppressions by range

Collection `pools`: one document.

    _id               "registered"
    content           JSON text: all pools and flavors (storage/pools.py)
    revision          raised by each change

Collection `catalogue`: one document for each queue that was placed while pools were registered. Shard key `_id`.

    _id               project, NUL, name
    pool              its name
    doubted_at        since when there may be no such queue
    attempt           of a move, that may change the pool

    _id               get, place
    pool, _id         the queues of a pool
    doubted_at        (sparse) the sweep

Collection `schema`: one document.

    version           of all this
    identity          by which the database is known for the same under another URI
    migrating         while a process brings it to the next: {by, until}
"""

from zaqar_notify.storage.mongodb.storage import MongoStore

__all__ = ["MongoStore"]
