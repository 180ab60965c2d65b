"""Signatures of webhooks, and the secrets that make them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from standardwebhooks import Webhook, WebhookVerificationError
from svix.webhooks import Webhook as SvixWebhook

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import KeptSecret, QueueRef, Subscription
from zaqar_notify.rules.formats import Signature
from zaqar_notify.rules.webhook_signing import (
    MAX_FORMER_SECRETS,
    check_secret,
    is_signed,
    public_keys,
    rotate,
    sealed,
    sign_webhook,
    webhook_secrets,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()


def subscription(
    *,
    project: str = "p1",
    subscription_id: str = "s1",
    generation: int = 0,
    rotations: tuple[datetime, ...] = (),
    signature: Signature = Signature.HMAC,
) -> Subscription:
    return Subscription(
        id=subscription_id,
        queue=QueueRef(project, "q1"),
        subscriber="https://example.org/hook",
        ttl=3600,
        options={"_signature": signature},
        created_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        secret_generation=generation,
        secret_rotations=rotations,
    )


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def rotated(of: Subscription, *, after: float = 0, overlap: int = 60) -> Subscription:
    return rotate(of, now=later(after), overlap_seconds=overlap, of_earlier_seconds=60)


def secrets_of(made_for: Subscription, *, now: datetime = NOW, master: str = "m") -> list[str]:
    return webhook_secrets(master, made_for, now=now, overlap_seconds=60)


@given(payload=st.binary(max_size=200))
def test_a_receiver_with_the_standard_library_verifies_our_webhooks(payload: bytes) -> None:
    text = payload.hex().encode()
    timestamp = int(datetime.now(UTC).timestamp())

    headers = {
        "webhook-id": "msg1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign_webhook([SECRET], "msg1", timestamp, b'"%s"' % text),
    }

    assert Webhook(SECRET).verify(b'"%s"' % text, headers) == text.decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(b'"%s"' % text, headers)


def test_during_a_rotation_both_secrets_sign_and_either_receiver_verifies() -> None:
    timestamp = int(datetime.now(UTC).timestamp())

    signature = sign_webhook([SECRET, OTHER], "msg1", timestamp, b"{}")

    assert signature.count("v1,") == 2
    headers = {
        "webhook-id": "msg1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }
    assert Webhook(SECRET).verify(b"{}", headers) == {}
    assert Webhook(OTHER).verify(b"{}", headers) == {}


def test_a_webhook_secret_stays_the_same_from_release_to_release() -> None:
    assert secrets_of(subscription()) == ["whsec_MitIzXj8O7MvLA6cfzdoJSC4J0ToCWE1Qt264CRDpnM="]


def test_each_subscription_project_generation_and_master_key_has_a_secret_of_its_own() -> None:
    secrets = [
        *secrets_of(subscription()),
        *secrets_of(subscription(), master="n"),
        *secrets_of(subscription(project="p2")),
        *secrets_of(subscription(subscription_id="s2")),
        *secrets_of(subscription(project="p1s", subscription_id="1")),
        *secrets_of(subscription(project='p1", "s1', subscription_id="")),
        *secrets_of(subscription(generation=1)),
    ]

    assert len(set(secrets)) == 7


def test_a_rotated_secret_signs_second_until_the_overlap_ends() -> None:
    [old] = secrets_of(subscription())
    rotated = subscription(generation=1, rotations=(NOW,))
    [new] = secrets_of(rotated, now=NOW + timedelta(seconds=60))

    assert secrets_of(rotated, now=NOW + timedelta(seconds=59)) == [new, old]
    assert secrets_of(rotated, now=NOW + timedelta(seconds=60)) == [new]


def test_each_of_several_kept_secrets_signs_until_its_own_overlap_ends() -> None:
    generations = [secrets_of(subscription(generation=number))[0] for number in range(4)]
    twice = subscription(generation=3, rotations=(NOW, NOW + timedelta(seconds=40)))

    def signing(after_seconds: int) -> list[int]:
        secrets = secrets_of(twice, now=NOW + timedelta(seconds=after_seconds))
        return [generations.index(secret) for secret in secrets]

    assert signing(59) == [3, 2, 1]
    assert signing(60) == signing(99) == [3, 2]
    assert signing(100) == [3]


def test_each_rotation_has_an_overlap_of_its_own() -> None:
    long = rotated(subscription(), overlap=600)
    short = rotated(long, after=1, overlap=10)
    at_once = rotated(short, after=2, overlap=0)
    generations = [secrets_of(subscription(generation=number))[0] for number in range(4)]

    def signing(after: float) -> list[int]:
        return [generations.index(each) for each in secrets_of(at_once, now=later(after))]

    assert signing(2) == signing(10) == [3, 1, 0]
    assert signing(11) == signing(599) == [3, 0]
    assert signing(600) == [3]


def test_a_rotation_of_an_earlier_release_keeps_the_service_s_overlap_beside_new_ones() -> None:
    of_earlier = subscription(generation=2, rotations=(later(-50), later(-10)))

    now = rotated(of_earlier, overlap=5)

    assert now.secret_generation == 3
    assert now.secret_rotations == ()
    assert now.kept_secrets == (
        KeptSecret(0, later(10)),
        KeptSecret(1, later(50)),
        KeptSecret(2, later(5)),
    )


def test_a_rotation_forgets_the_secrets_whose_overlap_has_ended() -> None:
    two = rotated(rotated(subscription()), after=59)

    assert [former.generation for former in two.kept_secrets] == [0, 1]
    assert [former.generation for former in rotated(two, after=60).kept_secrets] == [1, 2]


def test_secrets_that_sign_are_bounded() -> None:
    full = subscription()
    for number in range(MAX_FORMER_SECRETS):
        full = rotated(full, after=number)

    with pytest.raises(ValidationFailed, match="10 former secrets still sign"):
        rotated(full, after=59)

    assert len(rotated(full, after=60).kept_secrets) == MAX_FORMER_SECRETS
    assert len(rotated(full, after=59, overlap=0).kept_secrets) == MAX_FORMER_SECRETS


def test_the_first_generation_has_no_former_secret() -> None:
    assert len(secrets_of(subscription(generation=0, rotations=(NOW,)))) == 1


def test_without_a_master_key_there_is_no_secret() -> None:
    assert secrets_of(subscription(), master="") == []


def test_a_secret_that_a_client_gave_signs_from_then_on_and_until_its_own_overlap_ends() -> None:
    [first] = secrets_of(subscription())
    giving = rotate(
        subscription(),
        now=NOW,
        overlap_seconds=10,
        of_earlier_seconds=60,
        given=sealed("m", "p1", SECRET),
    )
    after = rotated(giving, after=1, overlap=20)
    [third] = secrets_of(subscription(generation=2))

    assert secrets_of(giving, now=NOW) == [SECRET, first]
    assert secrets_of(giving, now=later(10)) == [SECRET]
    assert secrets_of(after, now=later(1)) == [third, SECRET, first]
    assert secrets_of(after, now=later(21)) == [third]


def test_a_given_secret_is_kept_encrypted_for_its_project_and_this_master_key() -> None:
    kept = sealed("m", "p1", SECRET)
    giving = rotate(subscription(), now=NOW, overlap_seconds=0, of_earlier_seconds=60, given=kept)
    elsewhere = replace(giving, queue=QueueRef("p2", "q1"))

    assert SECRET[6:] not in kept
    assert SECRET.encode() not in base64.b64decode(kept)
    assert SECRET not in secrets_of(giving, master="other")
    assert SECRET not in secrets_of(elsewhere)


@pytest.mark.parametrize(
    "secret",
    [
        None,
        5,
        "",
        "whsec_",
        "whsk_" + SECRET[6:],
        SECRET[6:],
        SECRET + "!",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_a_given_secret_must_be_one_of_standard_webhooks(secret: object) -> None:
    with pytest.raises(ValidationFailed, match="base64 of 24 to 64 bytes"):
        check_secret(secret)


def test_the_library_of_svix_verifies_with_each_live_secret_and_no_other() -> None:
    signed_at = int(datetime.now(UTC).timestamp())
    of_three = rotated(rotated(rotated(subscription(), overlap=5)), overlap=600)
    secrets = secrets_of(of_three, now=later(10))
    [ended] = secrets_of(subscription())
    headers = {
        "webhook-id": "msg1",
        "webhook-timestamp": str(signed_at),
        "webhook-signature": sign_webhook(secrets, "msg1", signed_at, b"{}"),
    }

    assert len(secrets) == 3
    for secret in secrets:
        SvixWebhook(secret).verify(b"{}", headers)
    with pytest.raises(WebhookVerificationError):
        SvixWebhook(ended).verify(b"{}", headers)


def test_a_public_key_verifies_what_its_private_key_signed_and_nothing_else() -> None:
    chosen = rotated(subscription(signature=Signature.ED25519))
    privates = secrets_of(chosen)
    publics = public_keys("m", chosen, now=NOW, overlap_seconds=60)
    [stranger] = public_keys("m", subscription(subscription_id="s2"), now=NOW, overlap_seconds=60)

    signatures = sign_webhook(privates, "msg1", 1795202277, b"{}")

    assert [each[:4] for each in signatures.split()] == ["v1a,", "v1a,"]
    for number, public in enumerate(publics):
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
        signature = base64.b64decode(signatures.split()[number].removeprefix("v1a,"))
        key.verify(signature, b"msg1.1795202277.{}")
        assert is_signed(public, signatures, "msg1", 1795202277, b"{}")
        assert not is_signed(public, signatures, "msg1", 1795202277, b"[]")
    assert not is_signed(stranger, signatures, "msg1", 1795202277, b"{}")
    assert not is_signed(publics[0], "v1a,x v1, v1a v2,AA==", "msg1", 1795202277, b"{}")


def test_a_public_key_stays_the_same_from_release_to_release() -> None:
    [key] = public_keys("m", subscription(), now=NOW, overlap_seconds=60)

    assert key == "whpk_R0u9WDY8qfzSMG6HEIHhS46+wrfKGPujLPeel8TMQLw="


def test_without_a_master_key_there_is_no_public_key() -> None:
    assert public_keys("", subscription(), now=NOW, overlap_seconds=60) == []
