"""The real Keystone, the service's own user in it, and validators of its tokens."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta

from tests.keystone import PASSWORD, Keystone, User, keystone
from zaqar_notify.auth.keystone import read_account
from zaqar_notify.auth.keystone.validator import Keystone as Validator
from zaqar_notify.settings import Settings


@functools.cache
def shared_service() -> User:
    return keystone().user("service")


class Cloud:
    """`service` is the service's user.

    Args:
        service: None: one with Keystone's role `service`, which the tests of this process share.
    """

    def __init__(self, service: User | None = None) -> None:
        self.keystone: Keystone = keystone()
        self.service: User = service or shared_service()
        self.settings: dict[str, str] = {
            "keystone_url": self.keystone.url,
            "keystone_username": self.service.name,
            "keystone_password": PASSWORD,
            "keystone_project": self.keystone.name_of_project(self.service.project),
            "keystone_cache_seconds": "60",
            "keystone_timeout_seconds": "20",
        }
        self._ahead = timedelta()
        self._validators: list[Validator] = []

    def validator(self, **changes: object) -> Validator:
        """A new one, with the service's user and password unless other settings are given."""
        settings = Settings(**(self.settings | changes))
        validator = Validator(
            read_account(settings),
            cache_seconds=settings.keystone_cache_seconds,
            timeout_seconds=settings.keystone_timeout_seconds,
            trust_targets=settings.trust_targets,
            now=lambda: datetime.now(UTC) + self._ahead,
        )
        self._validators.append(validator)
        return validator

    def environ(self) -> dict[str, str]:
        """The settings of a service that believes Keystone's tokens, and tenant tokens."""
        settings = {f"ZAQAR_{name.upper()}": value for name, value in self.settings.items()}
        return settings | {"ZAQAR_AUTH": "token,keystone"}

    def advance(self, **duration: int) -> None:
        """Let the service's clock go so much ahead."""
        self._ahead += timedelta(**duration)

    async def close(self) -> None:
        for validator in self._validators:
            await validator.close()
