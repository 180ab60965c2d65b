"""Deliveries with a token of the user who subscribed; Keystone is a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from sinks.guard import AddressGuard
from sinks.trust import TrustSink
from tests.cloud import Cloud
from tests.keystone import User
from tests.sinks.builders import delivery_to
from tests.sinks.receiver import Receiver, answer
from zaqar_notify.auth.keystone.validator import Keystone
from zaqar_notify.models import Delivery, Verdict
from zaqar_notify.settings import Settings

LOOPBACK = Settings(delivery_allow="127.0.0.0/8,::1/128")


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    cloud = Cloud()
    yield cloud
    await cloud.close()


@pytest.fixture
def user(cloud: Cloud) -> User:
    return cloud.keystone.user("member")


@pytest.fixture
def keystone(cloud: Cloud, receiver: Receiver) -> Keystone:
    """The service's; the receiver is on the operator's list."""
    return cloud.validator(trust_targets=receiver.url("/"))


@pytest.fixture
async def sink(keystone: Keystone) -> AsyncIterator[TrustSink]:
    sink = TrustSink(LOOPBACK, AddressGuard.of(LOOPBACK), keystone=keystone)
    yield sink
    await sink.close()


@pytest.fixture
def delivery(cloud: Cloud, user: User, receiver: Receiver) -> Delivery:
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    trust = cloud.keystone.trust(user, cloud.service, "member", expires_at=expires_at)
    return delivery_to(f"trust+{receiver.url()}", options={"trust_id": trust})


async def test_deliveries_carry_one_token_of_the_user_as_long_as_it_is_good(
    cloud: Cloud, user: User, receiver: Receiver, sink: TrustSink, delivery: Delivery
) -> None:
    outcomes = [await sink.deliver(delivery) for _ in range(2)]

    assert [outcome.verdict for outcome in outcomes] == [Verdict.DELIVERED] * 2
    first, second = (request.headers["x-auth-token"] for request in receiver.requests)
    known = cloud.keystone.validated(first)
    assert known is not None
    assert known["user"]["id"] == user.id
    assert first == second


async def test_after_a_refused_token_the_next_attempt_has_a_new_one(
    receiver: Receiver, sink: TrustSink, delivery: Delivery
) -> None:
    receiver.behaviour = answer(401)
    refused = await sink.deliver(delivery)
    receiver.behaviour = answer(204)

    accepted = await sink.deliver(delivery)

    assert (refused.verdict, accepted.verdict) == (Verdict.TRY_LATER, Verdict.DELIVERED)
    first, second = (request.headers["x-auth-token"] for request in receiver.requests)
    assert first != second


async def test_with_keystone_away_a_delivery_waits_and_loses_no_attempt(
    cloud: Cloud, receiver: Receiver, delivery: Delivery
) -> None:
    away = cloud.validator(keystone_url="http://127.0.0.1:1", trust_targets=receiver.url("/"))
    sink = TrustSink(LOOPBACK, AddressGuard.of(LOOPBACK), keystone=away)

    outcome = await sink.deliver(delivery)

    assert outcome.verdict is Verdict.POSTPONED
    assert outcome.retry_after_seconds
    assert receiver.requests == []
    await sink.close()


async def test_a_trust_that_was_deleted_ends_the_delivery(
    cloud: Cloud, user: User, receiver: Receiver, sink: TrustSink, delivery: Delivery
) -> None:
    path = f"/OS-TRUST/trusts/{delivery.subscription.options['trust_id']}"
    cloud.keystone.ask("DELETE", path, token=cloud.keystone.token(user))

    outcome = await sink.deliver(delivery)

    assert (outcome.verdict, receiver.requests) == (Verdict.REFUSED, [])
    assert "it was deleted" in outcome.detail


async def test_a_user_who_lost_the_role_may_get_it_back(
    cloud: Cloud, user: User, receiver: Receiver, sink: TrustSink, delivery: Delivery
) -> None:
    cloud.keystone.withdraw(user, "member")
    outcome = await sink.deliver(delivery)
    cloud.keystone.grant(user, "member")

    assert (outcome.verdict, receiver.requests) == (Verdict.TRY_LATER, [])


async def test_a_stored_subscriber_elsewhere_gets_neither_token_nor_message(
    cloud: Cloud, receiver: Receiver, delivery: Delivery
) -> None:
    sink = TrustSink(LOOPBACK, AddressGuard.of(LOOPBACK), keystone=cloud.validator())

    outcome = await sink.deliver(delivery)

    assert (outcome.verdict, receiver.requests) == (Verdict.REFUSED, [])
    assert "ZAQAR_TRUST_TARGETS" in outcome.detail
    await sink.close()


async def test_the_operators_list_opens_no_address_that_the_guard_forbids(
    keystone: Keystone, receiver: Receiver, delivery: Delivery
) -> None:
    strict = Settings()
    sink = TrustSink(strict, AddressGuard.of(strict), keystone=keystone)

    outcome = await sink.deliver(delivery)

    assert (outcome.verdict, receiver.requests) == (Verdict.REFUSED, [])
    assert "ZAQAR_DELIVERY_ALLOW" in outcome.detail
    await sink.close()
