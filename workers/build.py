"""Puts the delivery engine together, from the store to the sinks. Knows nothing of Celery."""

from __future__ import annotations

import asyncio
import random as system_random
from collections.abc import Callable
from functools import partial

from sinks.registry import Sinks as RealSinks
from workers import leftovers, queue_moves, trusts, wills
from workers.attempts import Attempts, Batch
from workers.breakers import Breakers
from workers.bulk import BulkWork
from workers.consumers import Consumers
from workers.delivery_counts import DeliveryCounts
from workers.delivery_log import DeliveryLog
from workers.disabling import Disabling
from workers.dispatcher import Dispatcher
from workers.doorbell import LocalDoorbell
from workers.endpoints import Endpoints
from workers.engine import Engine, Sinks
from workers.fan_out import FanOuts
from workers.giving_up import GivingUp
from workers.ledger import Ledger
from workers.moves import Moves
from workers.outages import Stop
from workers.pacing.parts import Parts
from workers.pacing.places import Places
from workers.pacing.replay import PacedReplays
from workers.pacing.trying import Trying, Unit
from workers.periodic import follow_regularly, renew_regularly, sweep_regularly, turn_away_regularly
from workers.receivers import Receivers
from workers.recorder import Recorder
from workers.redelivery import Redeliveries
from workers.redriving import Redriving
from workers.relay import ServiceRelay
from workers.replay import Replays
from workers.replay_jobs import ReplayJobs
from workers.replaying import Replaying
from workers.retries import Retries
from workers.slots import Slots
from workers.sorting import Sorting
from workers.store import RetryingStore
from workers.untried import Untried
from zaqar_notify.service import Service


def build_engine(service: Service, doorbell: LocalDoorbell) -> Engine:
    """The delivery engine of this process; its counts are those of `service.metrics`.

    The caller awaits `engine.run()` and, to stop it, `engine.drain(…)`; that closes the sinks. The
    storage stays the caller's.
    """
    engine = assemble(
        service,
        doorbell,
        RealSinks(service.kinds, service.settings, ServiceRelay(service)),
    )
    service.metrics.engine = engine
    return engine


def assemble(
    service: Service,
    doorbell: LocalDoorbell,
    sinks: Sinks,
    *,
    random: Callable[[], float] = system_random.random,
) -> Engine:
    """An engine with these sinks. Each part is given those before it, and knows none of those after it."""
    storage, settings, clock = service.storage, service.settings, service.clock
    tasks, stop = asyncio.TaskGroup(), Stop()
    spawn = tasks.create_task
    store = RetryingStore(storage, clock=clock, stop=stop)
    recorder = Recorder(service.metrics.deliveries)
    endpoints = Endpoints(
        limit=settings.delivery_concurrency_per_endpoint,
        breaker_failures=settings.delivery_breaker_failures,
        states=service.endpoints,
        clock=clock,
    )
    breakers = Breakers(
        endpoints,
        service.endpoints,
        store,
        service.metrics.deliveries,
        clock=clock,
        attempt_seconds=settings.delivery_timeout_seconds,
        stop=stop,
    )
    receivers = Receivers(sinks, endpoints, clock=clock, settings=settings)
    replay_jobs = ReplayJobs(store, settings, doorbell, clock=clock, random=random)
    ledger = Ledger(store, replay_jobs, recorder)
    disabling = Disabling(store, recorder, clock=clock, settings=settings)
    giving_up = GivingUp(store, clock=clock, settings=settings)
    retries = Retries(
        store,
        disabling,
        giving_up,
        recorder,
        clock=clock,
        kinds=service.kinds,
        settings=settings,
        random=random,
    )
    counts = DeliveryCounts(storage, clock=clock, keep_seconds=settings.delivery_log_seconds)
    log = DeliveryLog(storage, counts, clock=clock, settings=settings)
    attempts = Attempts(store, retries, disabling, ledger, recorder, breakers, log, clock=clock)
    places = Places(store, clock=clock)
    trying = Trying(
        attempts, retries, disabling, giving_up, ledger, places, recorder, log, clock=clock
    )
    limits = service.quotas.limits
    slots = Slots(
        partial(_make, attempts, trying),
        spawn,
        total=settings.delivery_concurrency,
        most_of=lambda project: limits.last_known_of(project).deliveries,
    )
    untried = Untried(retries, giving_up, ledger, recorder, clock=clock)
    consumers = Consumers(storage, store, spawn, clock=clock, settings=settings)
    fan_outs = FanOuts(store, receivers, slots, untried, recorder, clock=clock, settings=settings)
    redeliveries = Redeliveries(store, receivers, slots, untried, recorder, clock=clock)
    sorting = Sorting(receivers, retries, ledger, untried, recorder, clock=clock)
    parts = Parts(receivers, sorting, slots, replay_jobs, places, recorder, breakers, clock, stop)
    paced = PacedReplays(store, consumers, parts, spawn, settings=settings)
    replays = Replays(
        store,
        paced,
        consumers,
        receivers,
        slots,
        sorting,
        replay_jobs,
        breakers,
        clock=clock,
        stop=stop,
    )
    moves = Moves(store, ledger, clock=clock, settings=settings)
    bulk_work = BulkWork(
        store,
        ledger,
        Replaying(store, clock=clock, settings=settings),
        Redriving(store, clock=clock, settings=settings),
        clock=clock,
        settings=settings,
        stop=stop,
    )
    dispatcher = Dispatcher(fan_outs, redeliveries, replays, moves, bulk_work, ledger, spawn)
    lease_seconds = settings.delivery_lease_seconds
    periodic = (
        log.keep_writing,
        partial(renew_regularly, consumers, lease_seconds=lease_seconds, stop=stop),
        partial(turn_away_regularly, slots, untried),
        breakers.tell_regularly,
        breakers.follow_regularly,
        partial(follow_regularly, limits),
        partial(sweep_regularly, storage, clock=clock, settings=settings, stop=stop),
        partial(leftovers.remove_regularly, storage, ledger.forget, clock=clock, stop=stop),
        partial(wills.carry_out_regularly, storage, clock=clock, settings=settings, stop=stop),
        partial(trusts.delete_regularly, service.delegations, storage, clock=clock, stop=stop),
        partial(queue_moves.carry_out_regularly, storage, clock=clock, stop=stop),
    )
    return Engine(
        service,
        doorbell,
        sinks,
        consumers,
        dispatcher,
        slots,
        store,
        periodic,
        worker=log.worker,
        tasks=tasks,
        stop=stop,
    )


async def _make(attempts: Attempts, trying: Trying, batch: Batch) -> None:
    """The work of a slot."""
    if isinstance(batch, Unit):
        await trying.make(batch)
    else:
        await attempts.make(batch)
