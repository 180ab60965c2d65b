"""Keystone's tokens, against a real Keystone."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.auth.between import Fault, between, half, hangs_up, says, silence
from tests.cloud import Cloud
from tests.sinks.certificates import made
from zaqar_notify.auth import Caller
from zaqar_notify.auth.keystone.validator import Keystone as Validator
from zaqar_notify.errors import KeystoneUnavailable


async def test_a_token_names_its_project_its_user_and_their_roles(cloud: Cloud) -> None:
    user = cloud.keystone.user("creator", "reader")

    caller = await cloud.validator().caller(cloud.keystone.token(user))

    roles = frozenset({"creator", "reader"})
    assert caller is not None
    assert caller.expires_at is not None
    known = replace(caller, expires_at=None)
    assert known == Caller(user.project, user=user.id, roles=roles, how="keystone")


async def test_a_token_of_a_trust_names_the_trustor_and_the_roles_of_the_trust(
    cloud: Cloud,
) -> None:
    trustor, trustee = cloud.keystone.user("creator", "reader"), cloud.keystone.user()
    trust = cloud.keystone.trust(trustor, trustee, "reader")

    caller = await cloud.validator().caller(cloud.keystone.trust_token(trustee, trust))

    assert caller is not None
    assert (caller.project, caller.user) == (trustor.project, trustor.id)
    assert caller.roles == {"reader"}


async def test_a_token_of_an_application_credential_names_its_user(cloud: Cloud) -> None:
    user = cloud.keystone.user("member")
    credential = cloud.keystone.application_credential(user)

    caller = await cloud.validator().caller(cloud.keystone.credential_token(*credential))

    assert caller is not None
    assert (caller.project, caller.user) == (user.project, user.id)


async def test_a_credential_with_access_rules_is_refused_because_they_are_not_enforced_here(
    cloud: Cloud,
) -> None:
    rule = {"service": "messaging", "method": "GET", "path": "/v2/queues"}
    credential = cloud.keystone.application_credential(
        cloud.keystone.user("member"), access_rules=[rule]
    )

    caller = await cloud.validator().caller(cloud.keystone.credential_token(*credential))

    assert caller is None


async def test_a_token_without_a_project_is_not_valid(cloud: Cloud) -> None:
    token = cloud.keystone.token(cloud.keystone.user("member"), is_scoped=False)

    assert await cloud.validator().caller(token) is None


@pytest.mark.parametrize(
    "token", ["", "gAAAA", "x" * 300, "x" * 100_000, "two words", "gAAAAA\r\nX-Roles: admin", "é"]
)
async def test_what_keystone_never_issued_is_not_valid(cloud: Cloud, token: str) -> None:
    assert await cloud.validator().caller(token) is None


async def test_tokens_of_disabled_projects_and_users_are_not_valid(cloud: Cloud) -> None:
    first, second = cloud.keystone.user("member"), cloud.keystone.user("member")
    tokens = [cloud.keystone.token(user) for user in (first, second)]
    cloud.keystone.enable(first.project, False)
    cloud.keystone.enable_user(second, False)

    assert await all_callers(cloud.validator(), tokens) == [None, None]


async def test_a_revoked_token_stops_within_the_cache_time(cloud: Cloud) -> None:
    token = cloud.keystone.token(cloud.keystone.user("member"))
    forgetful = cloud.validator(keystone_cache_seconds=0)
    assert await forgetful.caller(token) is not None

    cloud.keystone.revoke(token)

    assert await forgetful.caller(token) is None


async def test_a_known_token_ends_when_it_expires(cloud: Cloud) -> None:
    token = cloud.keystone.short_token(cloud.keystone.user("member"), lifetime_seconds=60)
    validator = cloud.validator(keystone_cache_seconds=3600)
    assert await validator.caller(token) is not None

    cloud.advance(seconds=61)

    assert await validator.caller(token) is None


async def test_keystone_is_asked_once_for_a_burst_of_one_token(cloud: Cloud) -> None:
    token = cloud.keystone.token(cloud.keystone.user("member"))
    async with between(cloud.keystone.url) as proxy:
        validator = cloud.validator(keystone_url=proxy.url)

        callers = await all_callers(validator, [token] * 50)
        callers += await all_callers(validator, [token] * 50)

        assert None not in callers
        assert (proxy.logins, proxy.validations) == (1, 1)


async def test_keystone_is_not_asked_again_at_once_for_a_token_that_it_does_not_know(
    cloud: Cloud,
) -> None:
    async with between(cloud.keystone.url) as proxy:
        validator = cloud.validator(keystone_url=proxy.url)

        callers = await all_callers(validator, ["gAAAAforged"] * 20)
        callers += await all_callers(validator, ["gAAAAforged"] * 20)

        assert callers == [None] * 40
        assert proxy.validations == 1


# The service's own account.


async def test_the_service_may_log_in_by_an_application_credential(cloud: Cloud) -> None:
    credential, secret = cloud.keystone.application_credential(cloud.service)
    validator = cloud.validator(
        keystone_username="",
        keystone_password="",
        keystone_application_credential_id=credential,
        keystone_application_credential_secret=secret,
    )

    token = cloud.keystone.token(cloud.keystone.user("member"))

    assert await validator.caller(token) is not None


async def test_the_service_logs_in_again_when_keystone_withdraws_its_token(cloud: Cloud) -> None:
    validator = cloud.validator(keystone_cache_seconds=0)
    user = cloud.keystone.user("member")
    assert await validator.caller(cloud.keystone.token(user)) is not None

    cloud.keystone.revoke_tokens_of(cloud.service)

    assert await validator.caller(cloud.keystone.token(user)) is not None


async def test_a_wrong_password_of_the_service_is_not_the_callers_fault(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    token = cloud.keystone.token(cloud.keystone.user("member"))
    async with between(cloud.keystone.url) as proxy:
        validator = cloud.validator(keystone_url=proxy.url, keystone_password="wrong")

        for _ in range(3):
            with pytest.raises(KeystoneUnavailable):
                await validator.caller(token)

        # Keystone locks accounts after some wrong passwords.
        assert proxy.logins == 1
    assert "keystone_refuses_us" in [getattr(record, "action", "") for record in caplog.records]
    assert "wrong" not in caplog.text


async def test_an_account_that_may_not_validate_is_not_the_callers_fault(cloud: Cloud) -> None:
    token = cloud.keystone.token(cloud.keystone.user("member"))
    powerless = Cloud(cloud.keystone.user("reader")).validator()

    with pytest.raises(KeystoneUnavailable):
        await powerless.caller(token)
    await powerless.close()


async def test_a_private_authority_is_trusted_for_keystone_by_its_file(
    cloud: Cloud, tmp_path: Path
) -> None:
    file = made(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    token = cloud.keystone.token(cloud.keystone.user("member"))
    async with between(cloud.keystone.url, tls=server) as proxy:
        wary = cloud.validator(keystone_url=proxy.url)
        told = cloud.validator(keystone_url=proxy.url, keystone_ca_file=str(file))

        with pytest.raises(KeystoneUnavailable, match="certificate"):
            await wary.caller(token)
        assert await told.caller(token) is not None


# Keystone slow or away.

FAULTS = {
    "HTML": says("200 OK", "<html>Welcome to nginx!</html>", "text/html"),
    "HTML, not found": says("404 Not Found", "<html>Not Found</html>", "text/html"),
    "a list": says("200 OK", "[]"),
    "a token without a user": says("200 OK", '{"token": {"expires_at": "2100-01-01T00:00:00Z"}}'),
    "an instant without a zone": says(
        "200 OK", '{"token": {"expires_at": "2100-01-01T00:00:00", "user": {"id": "u"}}}'
    ),
    "an empty project": says(
        "200 OK",
        '{"token": {"expires_at": "2100-01-01T00:00:00Z", "user": {"id": "u"}, "project": {"id": ""}}}',
    ),
    "a depth without end": says("200 OK", "[" * 100_000),
    "500": says("500 Internal Server Error", '{"error": {"code": 500}}'),
    "503": says("503 Service Unavailable", ""),
    "a redirect": says("302 Found\r\nLocation: http://127.0.0.1:1/v3", ""),
    "half an answer": half,
    "no answer": hangs_up,
    "silence": silence,
    "another protocol": says("nonsense", ""),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_known_tokens_go_on_and_others_wait_for_keystone(cloud: Cloud, fault: Fault) -> None:
    known, new = (cloud.keystone.token(cloud.keystone.user("member")) for _ in range(2))
    async with between(cloud.keystone.url) as proxy:
        validator = cloud.validator(
            keystone_url=proxy.url, keystone_cache_seconds=0, keystone_timeout_seconds=2
        )
        assert await validator.caller(known) is not None

        proxy.fail(fault)

        with pytest.raises(KeystoneUnavailable):
            await validator.caller(new)
        assert await validator.caller(known) is not None

        proxy.fail(None)
        assert await validator.caller(new) is not None


async def test_a_silent_keystone_holds_up_no_known_token(cloud: Cloud) -> None:
    known = cloud.keystone.token(cloud.keystone.user("member"))
    async with between(cloud.keystone.url) as proxy:
        validator = cloud.validator(
            keystone_url=proxy.url, keystone_cache_seconds=0, keystone_timeout_seconds=30
        )
        assert await validator.caller(known) is not None
        proxy.fail(silence)
        strangers = [asyncio.create_task(validator.caller(f"gAAAA{n}")) for n in range(100)]
        # The first one looks whether Keystone answers again.
        assert await validator.caller(known) is not None

        callers = await asyncio.wait_for(all_callers(validator, [known] * 1000), 0.5)

        assert None not in callers
        for stranger in strangers:
            stranger.cancel()


# Tokens of services.


def expired_token(cloud: Cloud) -> str:
    token = cloud.keystone.short_token(cloud.keystone.user("member"), lifetime_seconds=1)
    while cloud.keystone.validated(token) is not None:
        time.sleep(0.05)
    return token


async def test_a_service_may_pass_on_a_token_that_expired_meanwhile(cloud: Cloud) -> None:
    token = expired_token(cloud)
    validator = cloud.validator()
    nova = cloud.keystone.token(cloud.keystone.user("service"))

    assert await validator.caller(token) is None
    assert await validator.caller(token, nova) is not None
    assert await validator.caller(token) is None


async def test_a_users_token_is_no_service_token(cloud: Cloud) -> None:
    user = cloud.keystone.user("member")
    token = cloud.keystone.token(user)

    assert await cloud.validator().caller(token, token) is None
    assert await cloud.validator(keystone_service_roles="member").caller(token, token) is not None


async def test_a_forged_service_token_is_refused_although_the_users_is_valid(cloud: Cloud) -> None:
    token = cloud.keystone.token(cloud.keystone.user("member"))

    assert await cloud.validator().caller(token, "gAAAAforged") is None


async def all_callers(validator: Validator, tokens: Sequence[str]) -> list[Caller | None]:
    return await asyncio.gather(*map(validator.caller, tokens))
