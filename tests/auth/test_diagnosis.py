"""The doctor looks at Keystone."""

from __future__ import annotations

from pathlib import Path

from tests.cloud import Cloud
from zaqar_notify.auth.keystone.diagnosis import diagnose
from zaqar_notify.findings import Finding, Level
from zaqar_notify.settings import Settings


async def found(cloud: Cloud, **changes: object) -> Finding:
    settings = Settings(**(cloud.settings | {"auth": "keystone"} | changes))
    (finding,) = await diagnose(settings)
    assert "secret" not in f"{finding.sentence} {finding.remedy}"
    return finding


async def test_without_keystone_there_is_nothing_to_find(cloud: Cloud) -> None:
    assert await diagnose(Settings(**cloud.settings)) == []


async def test_an_account_that_may_validate_is_good_news(cloud: Cloud) -> None:
    assert (await found(cloud)).level is Level.OK


async def test_an_account_without_the_role_is_named_with_its_roles(cloud: Cloud) -> None:
    finding = await found(Cloud(cloud.keystone.user("reader")))

    assert finding.level is Level.WARNING
    assert "the roles reader in Keystone" in finding.sentence


async def test_a_refused_login_and_an_absent_keystone_are_problems(
    cloud: Cloud, tmp_path: Path
) -> None:
    findings = [
        await found(cloud, keystone_password="mistyped"),
        await found(cloud, keystone_url="http://127.0.0.1:1"),
        await found(cloud, keystone_conf=str(tmp_path / "absent")),
    ]

    assert {finding.level for finding in findings} == {Level.PROBLEM}
    assert "refuses the service's login: HTTP 401" in findings[0].sentence
