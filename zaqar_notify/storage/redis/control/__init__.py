"""The control store in one Redis.

All its keys have one hash tag, here `C`. A name of a queue is `PROJECT\\0NAME`, one of a subscription `PROJECT\\0QUEUE\\0ID`;
those that are sorted have the score 0, so that their order is that of the names. Values are msgpack.

    C:records            hash: the record of each queue
    C:names C:unapplied  sorted names of queues: all; those that are unapplied
    C:subscriptions      hash: the subscriptions
    C:subscribers        hash: `PROJECT\\0QUEUE\\0SUBSCRIBER`, to the id of that subscription
    C:ids                sorted names of subscriptions
    C:ends C:ends-of:P C:ends-at:P/Q    sorted by expiry: names of subscriptions: all, of a project, of a queue
    C:sealed             sorted: `KEY\\0` and the name of an encrypted subscription
    C:tokens C:digests   hashes: tokens; their ids by digests
    C:token-ids C:token-ids-of:P        sorted ids of tokens: all, of a project
    C:token-ends         ids of tokens, sorted by expiry
    C:quotas             hash: projects' own quotas; the field without a name counts changes
    C:shares:P           hash: the generations of the project's queues; the field without a name is for all queues
    C:suppressions:P C:suppression-ids:P    hash: the suppressed addresses of the project; their sorted ids
    C:pools              hash: revision and content
    C:catalogue          hash: entries
    C:doubted C:pool:N   names of queues: sorted by the instant of the doubt; of a pool, sorted

A change reads, decides, and writes by one script, which does nothing unless what was read is still there. Redis runs
one script at a time, and has it on the disk before it answers.

    writing.py read.lua write.lua    the scripts
    records.py subscriptions.py tokens.py quotas.py shares.py suppressions.py pools.py catalogue.py    the parts
    subscription_table.py stored_subscriptions.py    a subscription as it is stored
    encrypted.py            which subscriptions are encrypted
    store.py                the control store put together
"""

from zaqar_notify.storage.redis.control.store import RedisControl

__all__ = ["RedisControl"]
