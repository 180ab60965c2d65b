"""Refusals of Keystone."""

from __future__ import annotations

from zaqar_notify.errors import KeystoneUnavailable


class LoginRefused(KeystoneUnavailable):
    """Keystone refuses a login of the service with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Keystone refuses the service's login: HTTP {status}")
        self.status = status


class TrustRefused(Exception):
    """Keystone gives no token for a trust: the trust is gone, or its trustor has lost the roles."""

    def __init__(self, *, is_gone: bool) -> None:
        reason = "it was deleted" if is_gone else "its user has lost a role, or is disabled"
        super().__init__(f"Keystone gives no token for the trust: {reason}")
        self.is_gone = is_gone
