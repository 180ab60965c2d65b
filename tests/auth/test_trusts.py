"""Trusts: made at the user's request, used for one subscription, deleted with it. Against a real Keystone."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.auth.between import between, silence
from tests.clock import ManualClock
from tests.cloud import Cloud
from tests.keystone import User
from zaqar_notify.auth.keystone import delegations_of
from zaqar_notify.auth.keystone.delegations import GRACE, KeystoneDelegations
from zaqar_notify.auth.keystone.refusals import TrustRefused
from zaqar_notify.auth.keystone.targets import place_of
from zaqar_notify.clock import new_ordered_id
from zaqar_notify.delivery.trusts import Asker
from zaqar_notify.errors import KeystoneUnavailable, SubscriptionExists, ValidationFailed
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.encryption import parse_keys
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.subscriptions import renewal

TARGET = "http://mistral.example:8989/v2"
TTL = 3600


class Desk:
    """A store with subscriptions, and the trusts that are made for them."""

    def __init__(self, storage: Storage, cloud: Cloud) -> None:
        self.clock = ManualClock(datetime.now(UTC))
        self.storage = storage
        self.cloud = cloud
        self._validator = cloud.validator(trust_targets=TARGET)

    def delegations(self, **settings: object) -> KeystoneDelegations:
        keystone = self._validator
        if settings:
            keystone = self.cloud.validator(trust_targets=TARGET, **settings)
        delegations = delegations_of(keystone, self.storage, self.clock)
        assert delegations is not None
        return delegations

    def asker(self, user: User) -> Asker:
        token = self.cloud.keystone.token(user)
        return Asker(user.id, user.project, frozenset({"member", "reader"}), token)

    async def subscribe(self, user: User, *, queue: str = "jobs", **options: str) -> Subscription:
        """As the service does: first the trust, then the subscription."""
        wanted = self.wanted(user, queue=queue, **options)
        trust_id = await self.delegations().grant(wanted, self.asker(user))
        return await self.store(wanted, trust_id)

    def wanted(self, user: User, *, queue: str = "jobs", **options: str) -> Subscription:
        now = self.clock.now()
        return Subscription(
            new_ordered_id(now),
            QueueRef(user.project, queue),
            f"trust+{TARGET}/executions",
            TTL,
            dict(options),
            now,
            now + timedelta(seconds=TTL),
        )

    async def store(self, wanted: Subscription, trust_id: str) -> Subscription:
        options = wanted.options | {"trust_id": trust_id}
        subscription = replace(wanted, options=options)
        return await self.storage.subscriptions.create(
            subscription, renew=renewal(subscription), now=self.clock.now()
        )

    def later(self, *, seconds: float = GRACE.total_seconds() + 1) -> None:
        self.clock.advance(seconds=seconds)


@pytest.fixture
async def desk(cloud: Cloud, tmp_path: Path) -> AsyncIterator[Desk]:
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    yield Desk(storage, cloud)
    await storage.close()


@pytest.fixture
def user(cloud: Cloud) -> User:
    return cloud.keystone.user("member")


def ids(cloud: Cloud, user: User) -> list[str]:
    return [trust["id"] for trust in cloud.keystone.trusts(user)]


async def test_a_trust_gives_the_service_the_users_roles_on_the_users_project_until_the_ttl(
    desk: Desk, user: User
) -> None:
    subscription = await desk.subscribe(user)

    (trust,) = desk.cloud.keystone.trusts(user)
    assert subscription.options["trust_id"] == trust["id"]
    assert trust["trustee_user_id"] == desk.cloud.service.id
    assert trust["impersonation"] is True
    longer = datetime.fromisoformat(trust["expires_at"]) - subscription.expires_at
    assert timedelta() <= longer <= timedelta(seconds=1)
    token = await desk.cloud.validator().trusts.token(trust["id"])
    known = desk.cloud.keystone.validated(token)
    assert known is not None
    assert (known["user"]["id"], known["project"]["id"]) == (user.id, user.project)


async def test_heats_ttl_of_thousands_of_years_makes_trusts_of_a_hundred(
    desk: Desk, user: User
) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=220367260800)
    trusts = desk.cloud.validator().trusts

    # Keystone refuses a second one that expires in the same second.
    for _ in range(3):
        await trusts.make(desk.asker(user), expires_at=expires_at)

    years = [int(trust["expires_at"][:4]) for trust in desk.cloud.keystone.trusts(user)]
    assert {year - datetime.now(UTC).year for year in years} <= {99, 100}
    assert len(years) == 3


async def test_one_token_of_a_trust_is_used_again(desk: Desk, user: User) -> None:
    subscription = await desk.subscribe(user)
    trusts = desk.cloud.validator().trusts
    trust_id = subscription.options["trust_id"]

    first, second = [await trusts.token(trust_id) for _ in range(2)]
    trusts.forget(trust_id, first)
    third = await trusts.token(trust_id)

    assert first == second
    assert third != first


async def test_a_trust_of_another_user_can_not_be_named(desk: Desk, user: User) -> None:
    subscription = await desk.subscribe(user)
    colleague = desk.cloud.keystone.user("member", project=user.project)

    with pytest.raises(ValidationFailed, match="a trust of yours"):
        await desk.subscribe(colleague, trust_id=subscription.options["trust_id"])


async def test_an_own_trust_can_be_named_and_is_not_deleted(desk: Desk, user: User) -> None:
    trust_id = desk.cloud.keystone.trust(user, desk.cloud.service, "member")
    subscription = await desk.subscribe(user, trust_id=trust_id)
    await desk.storage.subscriptions.delete(subscription.queue, subscription.id)
    desk.later()

    assert await desk.delegations().delete_unused() == 0
    assert ids(desk.cloud, user) == [trust_id]


async def test_a_trust_with_more_roles_than_the_token_can_not_be_named(
    desk: Desk, user: User
) -> None:
    desk.cloud.keystone.grant(user, "creator")
    trust_id = desk.cloud.keystone.trust(user, desk.cloud.service, "member", "creator")

    with pytest.raises(ValidationFailed, match="the roles creator, which your token does not have"):
        await desk.subscribe(user, trust_id=trust_id)


@pytest.mark.parametrize("trust_id", ["absent", "../../users", "a" * 65, "?x=1", ""])
async def test_what_is_no_trust_can_not_be_named(desk: Desk, user: User, trust_id: str) -> None:
    with pytest.raises(ValidationFailed, match="trust_id"):
        await desk.subscribe(user, trust_id=trust_id)


async def test_a_user_without_the_roles_is_told_keystones_reason(desk: Desk, user: User) -> None:
    asker = Asker(user.id, user.project, frozenset({"admin"}), desk.cloud.keystone.token(user))

    with pytest.raises(ValidationFailed, match="Keystone makes no trust of you to the service: "):
        await desk.delegations().grant(desk.wanted(user), asker)


async def test_an_application_credential_of_the_service_can_not_take_trusts(
    desk: Desk, user: User
) -> None:
    credential, secret = desk.cloud.keystone.application_credential(desk.cloud.service)
    delegations = desk.delegations(
        keystone_username="",
        keystone_password="",
        keystone_application_credential_id=credential,
        keystone_application_credential_secret=secret,
    )

    with pytest.raises(ValidationFailed, match="an account of the service with a password"):
        await delegations.grant(desk.wanted(user), desk.asker(user))


# The end of a trust.


async def test_a_trust_goes_once_its_subscription_is_deleted(desk: Desk, user: User) -> None:
    subscription = await desk.subscribe(user)
    kept = await desk.subscribe(user, queue="kept")
    await desk.storage.subscriptions.delete(subscription.queue, subscription.id)
    desk.later()

    assert await desk.delegations().delete_unused() == 1
    assert await desk.delegations().delete_unused() == 0

    assert ids(desk.cloud, user) == [kept.options["trust_id"]]


async def test_a_trust_goes_although_the_store_is_encrypted(
    cloud: Cloud, user: User, tmp_path: Path
) -> None:
    keys = parse_keys([f"k1:{b64encode(bytes(32)).decode()}"])
    storage = await open_storage(f"sqlite://{tmp_path}/encrypted.db", keys=keys)
    desk = Desk(storage, cloud)
    subscription = await desk.subscribe(user)
    await storage.subscriptions.delete(subscription.queue, subscription.id)
    desk.later()

    assert await desk.delegations().delete_unused() == 1
    assert ids(cloud, user) == []
    await storage.close()


async def test_a_trust_goes_once_its_subscription_has_expired(desk: Desk, user: User) -> None:
    await desk.subscribe(user)
    desk.later(seconds=TTL)

    await desk.delegations().delete_unused()

    assert ids(desk.cloud, user) == []


async def test_a_repeated_subscription_has_the_new_trust_and_the_former_one_goes(
    desk: Desk, user: User
) -> None:
    await desk.subscribe(user)

    subscription = await desk.subscribe(user)
    desk.later()
    await desk.delegations().delete_unused()

    assert ids(desk.cloud, user) == [subscription.options["trust_id"]]


async def test_a_trust_whose_subscription_was_refused_goes(desk: Desk, user: User) -> None:
    first = await desk.subscribe(user)
    await desk.storage.subscriptions.update(
        first.queue, first.id, lambda one: replace(one, confirmed=True), now=desk.clock.now()
    )

    with pytest.raises(SubscriptionExists):
        await desk.subscribe(user)
    desk.later()
    await desk.delegations().delete_unused()

    assert ids(desk.cloud, user) == [first.options["trust_id"]]


async def test_a_trust_is_left_alone_while_its_subscription_is_being_stored(
    desk: Desk, user: User
) -> None:
    trust_id = await desk.delegations().grant(desk.wanted(user), desk.asker(user))

    assert await desk.delegations().delete_unused() == 0
    assert ids(desk.cloud, user) == [trust_id]


async def test_with_keystone_away_a_trust_is_deleted_later(
    desk: Desk, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    subscription = await desk.subscribe(user)
    await desk.storage.subscriptions.delete(subscription.queue, subscription.id)
    desk.later()
    async with between(desk.cloud.keystone.url) as proxy:
        delegations = desk.delegations(keystone_url=proxy.url, keystone_timeout_seconds=1)
        proxy.fail(silence)

        assert await delegations.delete_unused() == 0
        assert "trust_not_deleted" in [getattr(one, "action", "") for one in caplog.records]

        proxy.fail(None)
        assert await delegations.delete_unused() == 1

    assert ids(desk.cloud, user) == []


async def test_a_trust_that_its_user_deleted_is_gone_for_good(desk: Desk, user: User) -> None:
    subscription = await desk.subscribe(user)
    trust_id = subscription.options["trust_id"]
    path = f"/OS-TRUST/trusts/{trust_id}"
    desk.cloud.keystone.ask("DELETE", path, token=desk.cloud.keystone.token(user))

    with pytest.raises(TrustRefused) as refused:
        await desk.cloud.validator().trusts.token(trust_id)
    await desk.storage.subscriptions.delete(subscription.queue, subscription.id)
    desk.later()

    assert refused.value.is_gone
    assert await desk.delegations().delete_unused() == 1


async def test_a_trustor_who_lost_the_role_is_no_fault_of_the_services_account(
    desk: Desk, user: User
) -> None:
    subscription = await desk.subscribe(user)
    desk.cloud.keystone.withdraw(user, "member")

    with pytest.raises(TrustRefused) as refused:
        await desk.cloud.validator().trusts.token(subscription.options["trust_id"])

    assert not refused.value.is_gone


async def test_a_wrong_password_of_the_service_is_not_the_trusts_fault(
    desk: Desk, user: User
) -> None:
    subscription = await desk.subscribe(user)

    with pytest.raises(KeystoneUnavailable):
        await desk.cloud.validator(keystone_password="wrong").trusts.token(
            subscription.options["trust_id"]
        )


# The places that tokens are sent to.


async def test_places_in_the_catalogue_are_permitted_for_every_project(cloud: Cloud) -> None:
    entries = [
        cloud.keystone.endpoint("workflowv2", "mistral", "http://mistral:8989/v2"),
        cloud.keystone.endpoint("orchestration", "heat", "http://api/heat/v1/$(project_id)s"),
        cloud.keystone.endpoint("clustering", "senlin", "https://api.example/cluster"),
    ]
    permits = cloud.validator().trusts.permits

    permitted = {
        url: await permits(url)
        for url in (
            "http://mistral:8989/v2/executions",
            "HTTP://MISTRAL:8989/v2/executions?x=1",
            "http://api/heat/v1/another_project/stacks/s/resources/r/signal",
            "https://api.example/cluster/v1/webhooks/1/trigger?V=1&C=2",
            "https://api.example:443/cluster",
            "http://mistral:8989/v20/executions",
            "http://mistral:8989/",
            "https://mistral:8989/v2/executions",
            "http://mistral/v2/executions",
            "http://mistral:8989@evil.example/v2/executions",
            "http://mistral.evil.example:8989/v2",
            "http://api/heat/v2",
            "http://api/heat/v1/../../evil",
            "http://api/heat/v1/%2e%2e/%2e%2e/evil",
            "http://api/heat/v1/%252e%252e/evil",
            "http://api/heat/v1/..%2f..%2fevil",
            "http://api/heat/v1/..;/..;/evil",
            "http://api/heat/v1/..;a=b/evil",
            "http://api/heat/v1/%2e%2e%3b/evil",
            "http://api/heat/v1/.;/evil",
            "https://api.example/cluster\\..\\evil",
            "https://api.example/clusters",
            "nonsense",
            "",
        )
    }

    for entry in entries:
        cloud.keystone.forget_service(entry)
    assert [url for url, is_permitted in permitted.items() if is_permitted] == list(permitted)[:5]


def test_a_place_holds_whole_segments_only() -> None:
    place, below, beside = (place_of(f"http://host/{path}") for path in ("a/b", "a/b/c", "a/bc"))

    assert place is not None
    assert below is not None
    assert beside is not None
    assert (place.holds(below), place.holds(place), place.holds(beside)) == (True, True, False)


async def test_a_subscriber_elsewhere_is_refused_before_a_trust_is_made(
    desk: Desk, user: User
) -> None:
    wanted = replace(desk.wanted(user), subscriber="trust+http://elsewhere.example/")

    with pytest.raises(ValidationFailed, match="ZAQAR_TRUST_TARGETS"):
        await desk.delegations().grant(wanted, desk.asker(user))

    assert ids(desk.cloud, user) == []
