"""The doctor's findings about Keystone: whether it answers, and whether the service's account can do its work."""

from __future__ import annotations

from zaqar_notify.auth.keystone import asked_keystone
from zaqar_notify.errors import KeystoneUnavailable, StartRefused
from zaqar_notify.findings import Finding, ok, problem, warning
from zaqar_notify.settings import Settings

CHECK = "keystone"
VALIDATING_ROLES = frozenset({"admin", "service"})
"""Keystone's default policy lets them validate tokens of others."""


async def diagnose(settings: Settings) -> list[Finding]:
    """The findings; none if these settings believe no token of Keystone. Bounded in time, changes nothing."""
    try:
        async with asked_keystone(settings) as keystone:
            if keystone is None:
                return []
            roles = await keystone.own_roles()
    except StartRefused as error:
        return [problem(CHECK, str(error), "No API process starts with these settings")]
    except KeystoneUnavailable as error:
        return [
            problem(
                CHECK,
                str(error),
                "Correct ZAQAR_KEYSTONE_… or the account in Keystone; tokens are answered 503 until then",
            )
        ]
    if roles.isdisjoint(VALIDATING_ROLES):
        return [
            warning(
                CHECK,
                f"The service's account has the roles {', '.join(sorted(roles)) or 'none'} in Keystone",
                "Give it the role service on its project, unless Keystone's policy lets it validate tokens",
            )
        ]
    return [ok(CHECK, f"{keystone.url} answers, and the service's account may validate tokens")]
