"""Pools and flavors, as operators change them.

pools.py          registers, changes, shows and removes pools
flavors.py        makes, changes, shows and removes flavors
agreement.py      what pools and flavors must have in common; pure
choosing.py       the flavor that a client chooses for a queue
moves.py          has queues moved to other pools, and shows how far that is
balance.py        proposes moves, so that pools have queues by weight
connecting.py     tries a store before it becomes a pool
"""

from zaqar_notify.pools.balance import Proposal, proposals
from zaqar_notify.pools.choosing import check_new_flavor, fixed_flavor
from zaqar_notify.pools.flavors import (
    FlavorView,
    change_flavor,
    flavor_of,
    flavors_of,
    make_flavor,
    remove_flavor,
)
from zaqar_notify.pools.moves import ShownMove, cancel_move, move_of_id, move_queue, moves
from zaqar_notify.pools.pools import (
    AskedPool,
    PoolChange,
    change_pool,
    pool_of,
    pools_after,
    register_pool,
    remove_pool,
    shown_uri,
)
from zaqar_notify.pools.usage import queues_on

__all__ = [
    "AskedPool",
    "FlavorView",
    "PoolChange",
    "Proposal",
    "ShownMove",
    "cancel_move",
    "change_flavor",
    "change_pool",
    "check_new_flavor",
    "fixed_flavor",
    "flavor_of",
    "flavors_of",
    "make_flavor",
    "move_of_id",
    "move_queue",
    "moves",
    "pool_of",
    "pools_after",
    "proposals",
    "queues_on",
    "register_pool",
    "remove_flavor",
    "remove_pool",
    "shown_uri",
]
