"""One queue beside a model of it: whatever callers do in turn, the store and the model agree."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.clock import ManualClock
from tests.contract.steps import bodies, claim, everything, ids, page, post
from zaqar_notify.clock import new_id
from zaqar_notify.errors import ClaimDoesNotExist, ClaimNotHeld, MessageIsClaimed
from zaqar_notify.models import Claim, DeadLetter, QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

T = TypeVar("T")

INSTANT_SECONDS = [0.001, 1, 4.999, 5, 10, 30]
DURATIONS = st.sampled_from([1, 5, 10, 60])
LEASES = st.sampled_from([0, 1, 5, 10, 60])
DELAYS = st.sampled_from([0, 0, 0, 1, 5, 60])
GRACES = st.sampled_from([0, 5, 60])
LIMITS = st.sampled_from([1, 2, 5, 20])


@dataclass
class Lease:
    id: str
    expires_at: datetime


@dataclass
class Entry:
    """A message, as the contract's words describe it."""

    id: str
    body: str
    client_id: str
    ttl: int
    visible_from: datetime
    expires_at: datetime
    lease: Lease | None = None
    claim_count: int = 0

    def is_present(self, now: datetime) -> bool:
        return now < self.expires_at

    def claim_id(self, now: datetime) -> str | None:
        return self.lease.id if self.lease is not None and now < self.lease.expires_at else None

    def is_delayed(self, now: datetime) -> bool:
        return now < self.visible_from

    def is_visible(self, now: datetime) -> bool:
        return self.is_present(now) and not self.is_delayed(now) and self.claim_id(now) is None


@dataclass
class QueueModel:
    """The messages ever posted that were not removed, in order."""

    entries: list[Entry] = field(default_factory=list)

    def present(self, now: datetime) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_present(now)]

    def visible(self, now: datetime) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_visible(now)]

    def held_by(self, claim_id: str, now: datetime) -> list[Entry]:
        return [entry for entry in self.present(now) if entry.claim_id(now) == claim_id]

    def remove(self, gone: list[Entry]) -> None:
        self.entries = [entry for entry in self.entries if entry not in gone]


def ids_of(entries: list[Entry]) -> list[str]:
    return [entry.id for entry in entries]


class QueueMachine(RuleBasedStateMachine):
    """Every step is done to the store and to the model, and the answers are compared."""

    def __init__(self, runner: asyncio.Runner, storage: Storage) -> None:
        super().__init__()
        self.runner = runner
        self.storage = storage
        self.clock = ManualClock()
        self.queue = QueueRef(project=f"project-{new_id()}", name="orders")
        self.dead = QueueRef(project=self.queue.project, name="dead")
        self.model = QueueModel()
        self.dead_model = QueueModel()
        self.claim_ids = ["never-was"]
        self.posted_ids = ["never-was"]
        self.markers: list[tuple[str, int]] = []
        self.numbers = itertools.count()

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def run(self, answer: Coroutine[object, object, T]) -> T:
        return self.runner.run(answer)

    def later(self, seconds: int) -> datetime:
        return self.now + timedelta(seconds=seconds)

    def claim_id_from(self, data: st.DataObject) -> str:
        """Mostly a claim that is live, now and then one that ended or never was."""
        live = {entry.claim_id(self.now) for entry in self.model.present(self.now)} - {None}
        known = [claim_id for claim_id in self.claim_ids if claim_id in live]
        return data.draw(st.sampled_from([*known, self.claim_ids[-1], self.claim_ids[0]]))

    def message_id_from(self, data: st.DataObject) -> str:
        """Mostly a message that is there, now and then one that is gone or never was."""
        present = ids_of(self.model.present(self.now))
        return data.draw(st.sampled_from([*present, self.posted_ids[-1], self.posted_ids[0]]))

    @rule(
        count=st.integers(1, 3),
        ttl=DURATIONS,
        delay=DELAYS,
        client_id=st.sampled_from(["me", "you"]),
    )
    def post(self, count: int, ttl: int, delay: int, client_id: str) -> None:
        sent = [f"{next(self.numbers)}" for _ in range(count)]

        posted = self.run(
            post(
                self.storage,
                self.queue,
                bodies=sent,
                ttl=ttl,
                delay=delay,
                client_id=client_id,
                now=self.now,
            )
        )

        for message_id, body in zip(posted.ids, sent, strict=True):
            assert message_id not in self.posted_ids
            self.posted_ids.append(message_id)
            self.model.entries.append(
                Entry(message_id, body, client_id, ttl, self.later(delay), self.later(ttl))
            )

    @rule(ttl=LEASES, grace=GRACES, limit=LIMITS)
    def claim(self, ttl: int, grace: int, limit: int) -> None:
        expected = self.model.visible(self.now)[:limit]

        held = self.run(
            claim(self.storage, self.queue, ttl=ttl, grace=grace, limit=limit, now=self.now)
        )

        self.lease(held, expected, ttl, grace)

    @rule(ttl=LEASES, grace=GRACES, limit=LIMITS, dead_ttl=st.sampled_from([None, 10]))
    def claim_with_dead_letters(
        self, ttl: int, grace: int, limit: int, dead_ttl: int | None
    ) -> None:
        dead_letter = DeadLetter(queue=self.dead, max_claim_count=1, ttl=dead_ttl)
        visible = self.model.visible(self.now)
        fresh = [entry for entry in visible if entry.claim_count < 1]
        used_up = [entry for entry in visible if entry.claim_count >= 1]
        dead_before = len(self.dead_model.entries)

        held = self.run(
            claim(
                self.storage,
                self.queue,
                ttl=ttl,
                grace=grace,
                limit=limit,
                now=self.now,
                dead_letter=dead_letter,
            )
        )

        still_there = ids(self.run(everything(self.storage, self.queue, now=self.now)))
        moved = [entry for entry in used_up if entry.id not in still_there]
        met = visible
        if held is not None:
            [last_leased] = [entry for entry in visible if entry.id == ids(held)[-1]]
            met = visible[: visible.index(last_leased)]
        assert all(entry in moved for entry in used_up if entry in met)
        self.model.remove(moved)
        for entry in moved:
            ttl_there = dead_ttl or entry.ttl
            self.dead_model.entries.append(
                Entry(
                    entry.id,
                    entry.body,
                    entry.client_id,
                    ttl_there,
                    self.now,
                    self.later(ttl_there),
                )
            )
        assert len(self.dead_model.entries) == dead_before + len(moved)
        self.lease(held, fresh[:limit], ttl, grace)

    def lease(self, held: Claim | None, expected: list[Entry], ttl: int, grace: int) -> None:
        """Compare a claim with the model's, and note it in the model."""
        if held is None:
            assert expected == []
            return
        assert ids(held) == ids_of(expected)
        self.claim_ids.append(held.id)
        for entry in expected:
            entry.lease = Lease(held.id, self.later(ttl))
            entry.expires_at = max(entry.expires_at, self.later(ttl + grace))
            entry.claim_count += 1

    @rule(data=st.data(), ttl=LEASES, grace=GRACES)
    def renew(self, data: st.DataObject, ttl: int, grace: int) -> None:
        claim_id = self.claim_id_from(data)
        expected = self.model.held_by(claim_id, self.now)
        renewal = self.storage.claims.renew(
            self.queue, claim_id, ttl=ttl, grace=grace, now=self.now
        )

        if not expected:
            with pytest.raises(ClaimDoesNotExist):
                self.run(renewal)
            return
        self.run(renewal)

        for entry in expected:
            entry.lease = Lease(claim_id, self.later(ttl))
            entry.expires_at = max(entry.expires_at, self.later(ttl + grace))

    @rule(data=st.data(), ttl=LEASES, grace=GRACES)
    def renew_message(self, data: st.DataObject, ttl: int, grace: int) -> None:
        message_id = self.message_id_from(data)
        claim_id = self.claim_id_from(data)
        held = [each for each in self.model.held_by(claim_id, self.now) if each.id == message_id]
        renewal = self.storage.claims.renew_message(
            self.queue, claim_id, message_id, ttl=ttl, grace=grace, now=self.now
        )

        if not held:
            with pytest.raises(ClaimNotHeld):
                self.run(renewal)
            return
        self.run(renewal)

        [entry] = held
        entry.lease = Lease(claim_id, self.later(ttl))
        entry.expires_at = max(entry.expires_at, self.later(ttl + grace))

    @rule(data=st.data(), counted=st.booleans())
    def release(self, data: st.DataObject, counted: bool) -> None:
        claim_id = self.claim_id_from(data)

        self.run(self.storage.claims.release(self.queue, claim_id, now=self.now, counted=counted))

        for entry in self.model.held_by(claim_id, self.now):
            entry.lease = None
            entry.claim_count -= 0 if counted else 1

    @rule(data=st.data(), with_claim=st.booleans())
    def delete(self, data: st.DataObject, with_claim: bool) -> None:
        message_id = self.message_id_from(data)
        claim_id = self.claim_id_from(data) if with_claim else None
        found = [entry for entry in self.model.present(self.now) if entry.id == message_id]
        holder = found[0].claim_id(self.now) if found else None
        deletion = self.storage.messages.delete(
            self.queue, message_id, claim_id=claim_id, now=self.now
        )

        if found and holder != claim_id:
            is_live = claim_id is not None and self.model.held_by(claim_id, self.now)
            refusal = MessageIsClaimed if holder and (is_live or not claim_id) else ClaimNotHeld
            with pytest.raises(refusal):
                self.run(deletion)
            return
        self.run(deletion)

        self.model.remove(found)

    @rule(data=st.data(), count=st.integers(1, 3), with_claims=st.booleans())
    def delete_many(self, data: st.DataObject, count: int, with_claims: bool) -> None:
        named = [self.message_id_from(data) for _ in range(count)]
        claim_ids = None
        if with_claims:
            claim_ids = [self.claim_id_from(data) for _ in range(count - 1)]
        found = [entry for entry in self.model.present(self.now) if entry.id in named]
        deletion = self.storage.messages.delete_many(
            self.queue, named, claim_ids=claim_ids, now=self.now
        )

        if claim_ids is not None and any(
            entry.claim_id(self.now) not in [None, *claim_ids] for entry in found
        ):
            with pytest.raises(ClaimNotHeld):
                self.run(deletion)
            return
        self.run(deletion)

        self.model.remove(found)

    @rule(limit=LIMITS)
    def pop(self, limit: int) -> None:
        expected = self.model.visible(self.now)[:limit]

        popped = self.run(self.storage.messages.pop(self.queue, limit=limit, now=self.now))

        assert bodies(popped) == [entry.body for entry in expected]
        self.model.remove(expected)

    @precondition(lambda self: len(self.model.entries) > 5)
    @rule()
    def purge(self) -> None:
        self.run(self.storage.messages.purge(self.queue, now=self.now))

        self.model.entries.clear()

    @precondition(lambda self: len(self.model.entries) > 5)
    @rule()
    def delete_queue(self) -> None:
        self.run(self.storage.queues.delete(self.queue, now=self.now))

        self.model.entries.clear()

    @rule(limit=st.sampled_from([1, 3, 1000]))
    def sweep(self, limit: int) -> None:
        self.run(self.storage.sweep(now=self.now, limit=limit))

    @rule(seconds=st.sampled_from(INSTANT_SECONDS))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds=seconds)

    @rule(
        data=st.data(),
        limit=LIMITS,
        without_client=st.sampled_from([None, "me"]),
        include_claimed=st.booleans(),
        include_delayed=st.booleans(),
    )
    def page(
        self,
        data: st.DataObject,
        limit: int,
        without_client: str | None,
        include_claimed: bool,
        include_delayed: bool,
    ) -> None:
        marker, passed = data.draw(st.sampled_from([(None, 0), *self.markers]))
        expected = [
            entry
            for entry in self.model.present(self.now)
            if int(entry.body) >= passed
            and entry.client_id != without_client
            and (include_claimed or entry.claim_id(self.now) is None)
            and (include_delayed or not entry.is_delayed(self.now))
        ][:limit]

        shown = self.run(
            page(
                self.storage,
                self.queue,
                marker=marker,
                limit=limit,
                now=self.now,
                without_client=without_client,
                include_claimed=include_claimed,
                include_delayed=include_delayed,
            )
        )

        assert bodies(shown) == [entry.body for entry in expected]
        if expected:
            assert shown.marker is not None
            passed_now = int(expected[-1].body) + 1
            self.markers += [(shown.marker, passed_now), (expected[-1].id, passed_now)]

    @rule(data=st.data())
    def show_claim(self, data: st.DataObject) -> None:
        claim_id = self.claim_id_from(data)
        expected = self.model.held_by(claim_id, self.now)

        shown = self.run(self.storage.claims.get(self.queue, claim_id, now=self.now))

        if shown is None:
            assert expected == []
            return
        assert bodies(shown) == [entry.body for entry in expected]
        leases = [entry.lease for entry in expected if entry.lease is not None]
        assert {lease.id for lease in leases} == {shown.id}
        # Of a message that was renewed alone the lease ends at another time; of a deleted one it may count.
        assert max(lease.expires_at for lease in leases) <= shown.expires_at

    @invariant()
    def the_queue_is_as_in_the_model(self) -> None:
        shown = self.run(everything(self.storage, self.queue, now=self.now))

        assert [
            (one.id, one.ttl, one.expires_at, one.claim_id, one.claim_count) for one in shown
        ] == [
            (entry.id, entry.ttl, entry.expires_at, entry.claim_id(self.now), entry.claim_count)
            for entry in self.model.present(self.now)
        ]

    @invariant()
    def the_dead_letter_queue_is_as_in_the_model(self) -> None:
        shown = self.run(everything(self.storage, self.dead, now=self.now))

        assert [(one.id, one.ttl, one.expires_at, one.claim_count) for one in shown] == [
            (entry.id, entry.ttl, entry.expires_at, 0)
            for entry in self.dead_model.present(self.now)
        ]

    @invariant()
    def the_statistics_are_as_in_the_model(self) -> None:
        present = self.model.present(self.now)
        claimed = [entry for entry in present if entry.claim_id(self.now) is not None]
        due = [entry.id for entry in present if not entry.is_delayed(self.now)]

        stats = self.run(self.storage.queues.stats(self.queue, now=self.now))

        assert (stats.claimed, stats.total) == (len(claimed), len(present))
        assert (stats.oldest.id if stats.oldest else None) == (due[0] if due else None)
        assert (stats.newest.id if stats.newest else None) == (due[-1] if due else None)


def test_the_store_does_as_its_model_does(store_uri: str) -> None:
    with asyncio.Runner() as runner:
        storage = runner.run(open_storage(store_uri))

        class Machine(QueueMachine):
            def __init__(self) -> None:
                super().__init__(runner, storage)

        try:
            run_state_machine_as_test(
                Machine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
            )
        finally:
            runner.run(storage.close())
