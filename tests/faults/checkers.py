"""Do the service's promises hold in a history? Pure functions; each returns its complaints.

A checker flags only certain faults: where the order of two events can't be known, it assumes the
one that suits the service.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from tests.faults.history import (
    Claimed,
    Deleted,
    Delivered,
    Fault,
    History,
    LeaseLost,
    Listed,
    Observed,
    Posted,
    Refused,
    Released,
    Renewed,
    Unanswered,
)
from tests.faults.workload import EVEN, parity_of

CLOCK_MARGIN_SECONDS = 1
"""A lease may end this much early: the service may count whole seconds."""


def lost(acknowledged: Iterable[str], found: Iterable[str], where: str) -> list[str]:
    """Acknowledged messages that are nowhere."""
    there = set(found)
    return [
        f"{key} was acknowledged and is not {where}" for key in acknowledged if key not in there
    ]


def strange(acknowledged: Iterable[str], found: Iterable[str], where: str) -> list[str]:
    """Messages that no producer posted."""
    posted = set(acknowledged)
    return [f"{key} is {where} and was never posted" for key in found if key not in posted]


def doubled(found: Iterable[str], where: str) -> list[str]:
    """Messages that are there twice."""
    return [f"{key} is {where} {n} times" for key, n in Counter(found).items() if n > 1]


def posts_by_key(posts: Iterable[Posted]) -> dict[str, Posted]:
    """Which post each message came by."""
    return {key: post for post in posts for key in post.keys}


def out_of_order(post_of: Mapping[str, Posted], keys: Sequence[str], where: str) -> list[str]:
    """Messages before others that were acknowledged before they themselves were posted.

    Messages of one post must be in its order, too. `keys` may be any part of the posted ones.
    """
    complaints = []
    earliest: tuple[float, str] | None = None
    for key in reversed([key for key in keys if key in post_of]):
        post = post_of[key]
        if earliest is not None and earliest[0] < post.began_at:
            complaints.append(
                f"{key} is before {earliest[1]} {where}, which was acknowledged first"
            )
        if earliest is None or post.acknowledged_at < earliest[0]:
            earliest = (post.acknowledged_at, key)
    return complaints + _split_posts(post_of, keys, where)


def _split_posts(post_of: Mapping[str, Posted], keys: Sequence[str], where: str) -> list[str]:
    found: dict[int, list[str]] = defaultdict(list)
    for key in keys:
        if key in post_of:
            found[id(post_of[key])].append(key)
    return [
        f"{together} {where} are not in the order of their post"
        for together in found.values()
        if together != sorted(together, key=post_of[together[0]].keys.index)
    ]


def missed(
    listing: Sequence[str], seen: Sequence[str], unanswered: Set[str], observer: str
) -> list[str]:
    """Where an observer saw something else than the queue's messages, each once and in order.

    An `unanswered` message may be on the queue or not, and be seen or not, but not twice by one observer.
    """
    where = f"among what {observer} saw"
    complaints = doubled(seen, where)
    listed, found = ([key for key in keys if key not in unanswered] for keys in (listing, seen))
    complaints += lost(listed, found, where)
    complaints += strange(listed, found, where)
    if complaints or listed == found:
        return complaints
    return [f"{observer} saw the queue's messages in another order"]


def shared(
    claims: Sequence[Claimed],
    renewals: Sequence[Renewed],
    releases: Sequence[Released],
    deletions: Sequence[Deleted],
) -> list[str]:
    """Messages that two claims held at the same instant."""
    complaints = []
    for key, holds in _holds(claims, renewals, releases, deletions).items():
        holds.sort()
        held_until, holder = 0.0, ""
        for start, end, claim_id in holds:
            if start < held_until:
                complaints.append(f"{key} was held by claim {holder} and by claim {claim_id}")
            if end > held_until:
                held_until, holder = end, claim_id
    return complaints


def _holds(
    claims: Sequence[Claimed],
    renewals: Sequence[Renewed],
    releases: Sequence[Released],
    deletions: Sequence[Deleted],
) -> dict[str, list[tuple[float, float, str]]]:
    """For each message: from when until when, surely, by which claim."""
    lease_ends = _lease_ends(claims, renewals, releases)
    deleted_at = {(deleted.claim_id, deleted.key): deleted.asked_at for deleted in deletions}
    holds: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for claim in claims:
        for key in claim.keys:
            end = lease_ends[claim.claim_id]
            end = min(end, deleted_at.get((claim.claim_id, key), end))
            if claim.answered_at < end:
                holds[key].append((claim.answered_at, end, claim.claim_id))
    return holds


def _lease_ends(
    claims: Sequence[Claimed], renewals: Sequence[Renewed], releases: Sequence[Released]
) -> dict[str, float]:
    """Until when each claim was surely live."""
    ends = {claim.claim_id: claim.asked_at + claim.ttl - CLOCK_MARGIN_SECONDS for claim in claims}
    for renewed in renewals:
        end = renewed.asked_at + renewed.ttl - CLOCK_MARGIN_SECONDS
        ends[renewed.claim_id] = max(ends[renewed.claim_id], end)
    for released in releases:
        if released.claim_id in ends:
            ends[released.claim_id] = min(ends[released.claim_id], released.asked_at)
    return ends


def cut_short(
    claims: Sequence[Claimed],
    renewals: Sequence[Renewed],
    releases: Sequence[Released],
    losses: Sequence[LeaseLost],
) -> list[str]:
    """Claims that the service called over while they were surely live."""
    ends = _lease_ends(claims, renewals, releases)
    return [
        f"claim {loss.claim_id} was lost {ends[loss.claim_id] - loss.asked_at:.1f} s before its end"
        for loss in losses
        if loss.asked_at < ends[loss.claim_id]
    ]


def undead(claims: Sequence[Claimed], deletions: Sequence[Deleted]) -> list[str]:
    """Messages that were claimed after their deletion had been confirmed."""
    deleted_at: dict[str, float] = {}
    for deleted in deletions:
        known = deleted_at.get(deleted.key, deleted.answered_at)
        deleted_at[deleted.key] = min(known, deleted.answered_at)
    return [
        f"{key} was claimed {claim.asked_at - deleted_at[key]:.1f} s after its deletion"
        for claim in claims
        for key in claim.keys
        if key in deleted_at and claim.asked_at > deleted_at[key]
    ]


def undelivered(
    acknowledged: Sequence[str],
    deliveries: Sequence[Delivered],
    subscribers: Iterable[str],
    unanswered: Iterable[str],
) -> list[str]:
    """Messages that a subscriber never took, and deliveries of messages that no producer posted."""
    taken: dict[str, list[str]] = defaultdict(list)
    for delivery in deliveries:
        taken[delivery.subscriber].append(delivery.key)
    complaints = []
    for subscriber in subscribers:
        complaints += lost(acknowledged, taken[subscriber], f"with {subscriber}")
        complaints += strange([*acknowledged, *unanswered], taken[subscriber], f"with {subscriber}")
    return complaints


def overtaken(
    post_of: Mapping[str, Posted], deliveries: Sequence[Delivered], subscriber: str
) -> list[str]:
    """Messages that an ordered subscriber took before others that were acknowledged before they were posted.

    A message that comes again, after a crash, counts by its first time.
    """
    taken = dict.fromkeys(each.key for each in deliveries if each.subscriber == subscriber)
    return out_of_order(post_of, [*taken], f"with {subscriber}")


def renamed(deliveries: Sequence[Delivered]) -> list[str]:
    """Deliveries of one message to one subscriber that differ in their id, and shared ids."""
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    of_id: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for delivery in deliveries:
        what = (delivery.subscriber, delivery.key)
        ids[what].add(delivery.delivery_id)
        of_id[delivery.delivery_id].add(what)
    complaints = [
        f"{key} came to {subscriber} under {len(names)} delivery ids"
        for (subscriber, key), names in ids.items()
        if len(names) > 1
    ]
    return complaints + [
        f"delivery {delivery_id} stands for {len(whats)} deliveries"
        for delivery_id, whats in of_id.items()
        if len(whats) > 1
    ]


def check(
    history: History,
    *,
    observed: str,
    observers: Sequence[str],
    consumed: str,
    relayed: str,
    subscribers: Sequence[str],
    filtered: str,
    ordered: Sequence[str],
) -> list[str]:
    """Everything that is wrong with a drained run.

    Args:
        observed: The queue whose messages stay, with its observers and subscribers.
        observers: Their names.
        consumed: The queue whose messages were claimed and deleted, all of them.
        relayed: The queue that subscribes to `observed`.
        subscribers: The webhooks and mailboxes that subscribe to `observed`.
        filtered: The one that gets messages with even numbers only.
        ordered: Those of them that get one delivery after the other.
    """
    posts = history.of(Posted)
    listings = {listed.queue: listed.keys for listed in history.of(Listed)}
    post_of = posts_by_key(posts)
    claims = history.of(Claimed)
    events, jobs = _keys_on(observed, posts), _keys_on(consumed, posts)
    # These may be on their queue or not, and need not be seen by everybody there.
    unanswered = history.of(Unanswered)
    maybe_events, maybe_jobs = set(_keys_on(observed, unanswered)), _keys_on(consumed, unanswered)
    on_queue = listings[observed]
    complaints = lost(events, on_queue, f"on {observed}")
    complaints += strange([*events, *maybe_events], on_queue, f"on {observed}")
    complaints += doubled(on_queue, f"on {observed}")
    complaints += out_of_order(post_of, on_queue, f"on {observed}")
    seen = _seen(history)
    for observer in observers:
        complaints += missed(on_queue, seen[observer], maybe_events, observer)
    claimed = [key for claim in claims for key in claim.keys]
    complaints += lost(jobs, claimed, "in any claim")
    complaints += strange([*jobs, *maybe_jobs], claimed, "in a claim")
    complaints += [f"{key} is left on {consumed}" for key in listings[consumed]]
    for claim in claims:
        complaints += out_of_order(post_of, claim.keys, f"in claim {claim.claim_id}")
    renewals, releases = history.of(Renewed), history.of(Released)
    deletions = history.of(Deleted)
    complaints += shared(claims, renewals, releases, deletions)
    complaints += cut_short(claims, renewals, releases, history.of(LeaseLost))
    complaints += undead(claims, deletions)
    deliveries = history.of(Delivered)
    complaints += undelivered(events, deliveries, subscribers, maybe_events)
    complaints += undelivered(_even(events), deliveries, [filtered], _even(maybe_events))
    complaints += renamed(deliveries)
    for subscriber in ordered:
        complaints += overtaken(post_of, deliveries, subscriber)
    complaints += lost(events, listings[relayed], f"on {relayed}")
    complaints += strange([*events, *maybe_events], listings[relayed], f"on {relayed}")
    complaints += doubled(listings[relayed], f"on {relayed}")
    return complaints


def counts(history: History) -> dict[str, int]:
    """The run in numbers."""
    posts, claims = history.of(Posted), history.of(Claimed)
    deliveries = history.of(Delivered)
    distinct = {(delivery.subscriber, delivery.key) for delivery in deliveries}
    faults = Counter(fault.kind for fault in history.of(Fault))
    return dict(sorted(faults.items())) | {
        "posts acknowledged": len(posts),
        "posts sent more than once": sum(post.tries > 1 for post in posts),
        "seconds at most until a post was acknowledged": round(
            max((post.acknowledged_at - post.began_at for post in posts), default=0)
        ),
        "posts sent once that got no answer": len(history.of(Unanswered)),
        "messages acknowledged": sum(len(post.keys) for post in posts),
        "messages observed": sum(len(page.keys) for page in history.of(Observed)),
        "claims": len(claims),
        "messages claimed": sum(len(claim.keys) for claim in claims),
        "claims renewed": len(history.of(Renewed)),
        "claims released": len(history.of(Released)),
        "messages deleted under a claim": len(history.of(Deleted)),
        "deliveries taken": len(deliveries),
        "deliveries refused by the receiver": len(history.of(Refused)),
        "duplicate deliveries": len(deliveries) - len(distinct),
        "messages left at the end": sum(len(listed.keys) for listed in history.of(Listed)),
    }


def _keys_on(queue: str, posts: Iterable[Posted | Unanswered]) -> list[str]:
    return [key for post in posts if post.queue == queue for key in post.keys]


def _even(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if parity_of(key) == EVEN]


def _seen(history: History) -> dict[str, list[str]]:
    seen: dict[str, list[str]] = defaultdict(list)
    for page in history.of(Observed):
        seen[page.observer] += page.keys
    return seen
