"""Operations on claims."""

from __future__ import annotations

from zaqar_notify.clock import new_id
from zaqar_notify.delivery import carrier
from zaqar_notify.errors import ClaimDoesNotExist
from zaqar_notify.metadata import dead_letter
from zaqar_notify.models import Claim, QueueRef
from zaqar_notify.rules.limits import check_limit, check_range
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.waiting import Wait, first_found


async def create(
    service: Service,
    ref: QueueRef,
    *,
    ttl: int | None = None,
    grace: int | None = None,
    limit: int | None = None,
    wait: Wait | None = None,
) -> Claim | None:
    """Lease visible messages, oldest first; None when there is nothing to claim.

    Args:
        ttl: Length of the lease, seconds; None takes the default. A lease of 0 ends at once.
        grace: Seconds of life past the lease, at least; None takes the default.
        wait: Put off the answer None while nothing comes. When the caller hangs up, nothing stays
            claimed and nothing is counted.
    """
    storage, settings = service.storage, service.settings
    limit = check_limit(limit, most=settings.max_messages_per_claim_or_pop, unit="messages")
    ttl, grace = _terms(ttl, grace, settings)
    claim_id = new_id()

    async def claim() -> Claim | None:
        return await storage.claim(
            ref,
            claim_id=claim_id,
            ttl=ttl,
            grace=grace,
            limit=limit,
            now=service.clock.now(),
            dead_letter=lambda rules: dead_letter(ref, rules),
            carrier=lambda to: carrier(ref, to, settings),
        )

    async def give_back(claim: Claim) -> None:
        async with storage.at(ref) as store:
            await store.claims.release(ref, claim.id, now=service.clock.now(), counted=False)

    if wait is None:
        found = await claim()
    else:
        watch = storage.watch(ref, exclusive=True)
        found = await first_found(claim, watch, wait, give_back=give_back)
    if found is not None:
        service.metrics.claims += 1
        service.metrics.messages_claimed += len(found.messages)
    return found


async def get(service: Service, ref: QueueRef, claim_id: str) -> Claim:
    async with service.storage.at(ref) as store:
        claim = await store.claims.get(ref, claim_id, now=service.clock.now())
    if claim is None:
        raise ClaimDoesNotExist(ref.name, claim_id)
    return claim


async def renew(
    service: Service,
    ref: QueueRef,
    claim_id: str,
    *,
    ttl: int | None = None,
    grace: int | None = None,
) -> None:
    """Let the lease begin anew; an argument of None takes the default."""
    ttl, grace = _terms(ttl, grace, service.settings)
    async with service.storage.at(ref) as store:
        await store.claims.renew(ref, claim_id, ttl=ttl, grace=grace, now=service.clock.now())


async def release(service: Service, ref: QueueRef, claim_id: str) -> None:
    async with service.storage.at(ref) as store:
        await store.claims.release(ref, claim_id, now=service.clock.now())


def _terms(ttl: int | None, grace: int | None, settings: Settings) -> tuple[int, int]:
    if ttl is None:
        ttl = settings.default_claim_ttl
    if grace is None:
        grace = settings.default_claim_grace
    check_range("ttl", ttl, least=0, most=settings.max_claim_ttl, unit="seconds")
    check_range("grace", grace, least=0, most=settings.max_claim_grace, unit="seconds")
    return ttl, grace
