"""Trusts: a user lets the service act in its name, for one subscription.

Source: Identity API v3, "OS-TRUST".
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import msgspec

from zaqar_notify.auth.keystone.account import Account
from zaqar_notify.auth.keystone.connection import Answer, KeystoneConnection
from zaqar_notify.auth.keystone.own_token import OwnToken, RenewedToken
from zaqar_notify.auth.keystone.refusals import LoginRefused, TrustRefused
from zaqar_notify.auth.keystone.targets import Targets
from zaqar_notify.delivery.trusts import Asker
from zaqar_notify.errors import KeystoneUnavailable, ValidationFailed
from zaqar_notify.models import JsonObject

MOST_TOKENS = 1000
"""Of trusts, that are remembered."""
LONGEST = timedelta(days=100 * 365)
"""Databases of Keystone end before the year 9999."""
MOST_TRIES = 5
"""Keystone refuses a second trust between two users that expires in the same second."""


class Trusts:
    """Makes, uses and deletes trusts. Belongs to one event loop."""

    def __init__(
        self,
        account: Account,
        connection: KeystoneConnection,
        own_token: OwnToken,
        *,
        targets: Targets,
    ) -> None:
        self._account = account
        self._connection = connection
        self._own_token = own_token
        self._tokens: dict[str, RenewedToken] = {}
        self.permits = targets.permits

    async def make(self, asker: Asker, *, expires_at: datetime) -> str:
        """A new trust of the asker to the service's user, with the asker's roles; its id.

        Raises:
            ValidationFailed: Keystone refuses it.
            KeystoneUnavailable: Keystone gives no answer; the trust may have been made.
        """
        if not self._account.has_password:
            raise ValidationFailed(
                "trust+ subscribers need an account of the service with a password in Keystone, "
                "and it has an application credential"
            )
        trustee = (await self._own_token.get()).user
        wanted: JsonObject = {
            "trustor_user_id": asker.user,
            "trustee_user_id": trustee,
            "project_id": asker.project,
            "impersonation": True,
            "roles": [{"name": role} for role in sorted(asker.roles)],
        }
        last = min(expires_at, datetime.now(UTC) + LONGEST)
        for number in range(MOST_TRIES):
            # Keystone cuts off fractions of a second.
            later = timedelta(seconds=1 + secrets.randbelow(10**number))
            wanted["expires_at"] = f"{last + later:%Y-%m-%dT%H:%M:%S.000000Z}"
            answer = await self._connection.send(
                "POST",
                "/OS-TRUST/trusts",
                token=asker.token,
                body={"trust": wanted},
                may_repeat=False,
            )
            if answer.status != HTTPStatus.CONFLICT:
                break
        if answer.status != HTTPStatus.CREATED:
            raise _refused("Keystone makes no trust of you to the service", answer)
        return _trust_in(answer).id

    async def check(self, trust_id: str, asker: Asker) -> None:
        """Refuse a trust that is not the asker's own, for the asker's project, to the service's user.

        Its roles must be those of the asker's token, or fewer: the token may be made for less than its user may do.

        Raises:
            ValidationFailed: It is another's, or there is none.
            KeystoneUnavailable: Keystone gives no answer.
        """
        own = await self._own_token.get()
        answer = await self._connection.send("GET", _path(trust_id), token=own.token)
        if answer.status != HTTPStatus.OK:
            raise _refused("Keystone shows the service no trust with this trust_id", answer)
        trust = _trust_in(answer)
        found = (trust.trustor_user_id, trust.project_id, trust.trustee_user_id)
        if found != (asker.user, asker.project, own.user):
            raise ValidationFailed(
                "options: trust_id must name a trust of yours, for this project, to the service's user; "
                "leave it out, and one is made"
            )
        if missing := {role.name for role in trust.roles} - asker.roles:
            raise ValidationFailed(
                f"options: trust_id names a trust with the roles {', '.join(sorted(missing))}, "
                "which your token does not have"
            )

    async def token(self, trust_id: str) -> str:
        """A token that acts for the trustor.

        Raises:
            TrustRefused: Keystone gives none.
            KeystoneUnavailable: Keystone gives no answer, or refuses the service's account.
        """
        renewed = self._tokens.pop(trust_id, None)
        if renewed is None:
            login = self._account.login | {"scope": {"OS-TRUST:trust": {"id": trust_id}}}
            renewed = RenewedToken(self._connection, login)
        self._tokens[trust_id] = renewed
        if len(self._tokens) > MOST_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        try:
            return (await renewed.get()).token
        except LoginRefused as refusal:
            # Is it the trust's fault, or the account's? The status is the same.
            own = await self._own_token.get()
            answer = await self._connection.send("GET", _path(trust_id), token=own.token)
            is_gone = answer.status == HTTPStatus.NOT_FOUND and answer.is_refusal
            raise TrustRefused(is_gone=is_gone) from refusal

    def forget(self, trust_id: str, token: str) -> None:
        """The receiver did not take the token."""
        if renewed := self._tokens.get(trust_id):
            renewed.forget(token)

    async def delete(self, trust_id: str) -> None:
        """Delete the trust; no error when it is gone.

        Raises:
            KeystoneUnavailable: Keystone gives no answer, or refuses.
        """
        try:
            # Only the trustor may: the service acts in its name.
            token = await self.token(trust_id)
        except TrustRefused as refusal:
            if refusal.is_gone:
                return
            token = (await self._own_token.get()).token
        answer = await self._connection.send("DELETE", _path(trust_id), token=token)
        self._tokens.pop(trust_id, None)
        if answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND):
            raise KeystoneUnavailable(f"Keystone deletes no trust: HTTP {answer.status}")


class _Role(msgspec.Struct):
    name: str


class _Trust(msgspec.Struct):
    id: str
    trustor_user_id: str
    trustee_user_id: str
    project_id: str | None = None
    roles: list[_Role] = []


def _path(trust_id: str) -> str:
    if not trust_id.isalnum() or not trust_id.isascii() or len(trust_id) > 64:
        raise ValidationFailed("options: trust_id must be the id of a trust")
    return f"/OS-TRUST/trusts/{trust_id}"


def _trust_in(answer: Answer) -> _Trust:
    try:
        return msgspec.convert(answer.document.get("trust"), _Trust)
    except msgspec.ValidationError as error:
        raise KeystoneUnavailable("Keystone's answer about a trust is not whole") from error


def _refused(sentence: str, answer: Answer) -> Exception:
    """Keystone's refusal, with its own words."""
    if not answer.is_refusal:
        return KeystoneUnavailable(f"{sentence}: HTTP {answer.status}")
    reason = str(answer.document["error"].get("message", ""))[:500]
    return ValidationFailed(f"{sentence}: {reason}")
