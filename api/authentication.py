"""From a request to its caller: one decision for all surfaces.

1. A request with the header `URL-Signature`, also an empty one, is a pre-signed request: the signature must verify.
2. With `ZAQAR_AUTH=none` the request names its project, and tokens are ignored.
3. Else the request's token must verify: the prefix `zqn_` marks a tenant token, any other token is Keystone's. The
   project is the token's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from msgspec.structs import replace

from api.credentials import token_of
from api.headers import project_or_none
from api.refusals import Unauthorized
from api.requests import Call
from zaqar_notify.auth import Caller, KnownTokens, is_operator
from zaqar_notify.clock import Clock, host_now
from zaqar_notify.errors import ProjectNotPermitted
from zaqar_notify.rules.signing import verify_url
from zaqar_notify.rules.tokens import PREFIX
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings

if TYPE_CHECKING:
    from zaqar_notify.auth.keystone.validator import Keystone

BEARER = b'Bearer realm="zaqar-notify"'
MEMBER = frozenset({"member"})


class Authenticator(Protocol):
    async def authenticate(self, request: Call) -> Caller:
        """The caller of the request.

        Raises:
            NotifyError: The request's token or signature does not verify.
        """


class Signatures:
    """Verifies pre-signed requests."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._secrets = [secret.get_secret_value() for secret in settings.signed_url_secrets]
        self._clock = clock

    def caller(self, request: Call) -> Caller:
        """The caller that the signature stands for: it has no user, no roles, and the right to what was signed.

        Raises:
            SignatureRefused: The signature does not cover the request.
        """
        project = project_or_none(request.headers) or None
        paths = request.header(b"url-paths") or ""
        verify_url(
            self._secrets,
            signature=request.header(b"url-signature") or "",
            paths_header=paths,
            methods_header=request.header(b"url-methods") or "",
            expires_header=request.header(b"url-expires") or "",
            project=project or "",
            method=request.method,
            path=request.path,
            prefix=request.prefix,
            now=host_now(self._clock),
        )
        return Caller(project, signed_paths=tuple(paths.split(",")), how="signature")


class TrustedHeaders:
    """Trusts the project that a request names, and the roles and the user that a trusted proxy names."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._signatures = Signatures(settings, clock)
        self._default_project = settings.default_project or None
        self._has_proxy = settings.trust_proxy
        self._roles = MEMBER | {"operator"} if settings.admin_mode else MEMBER

    async def authenticate(self, request: Call) -> Caller:
        headers = request.headers
        if b"url-signature" in headers:
            return self._signatures.caller(request)
        project = project_or_none(headers)
        project = self._default_project if project is None else project or None
        roles = request.header(b"x-roles") if self._has_proxy else None
        if roles is None:
            return Caller(project, roles=self._roles)
        named = frozenset(role.strip() for role in roles.split(",") if role.strip())
        return Caller(project, request.header(b"x-user-id"), named, how="proxy")


class VerifiedTokens:
    """Believes tenant tokens, Keystone's tokens, or both."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        tenants: KnownTokens | None,
        keystone: Keystone | None,
    ) -> None:
        self._signatures = Signatures(settings, clock)
        self._tenants = tenants
        self._keystone = keystone
        challenges = (
            None if tenants is None else BEARER,
            None if keystone is None else keystone.challenge.encode("latin-1"),
        )
        self._challenges = tuple(each for each in challenges if each is not None)

    async def authenticate(self, request: Call) -> Caller:
        if b"url-signature" in request.headers:
            return self._signatures.caller(request)
        token = token_of(request.headers, self._challenges)
        if token.startswith(PREFIX):
            return await self._tenant(token, request)
        if self._keystone is None:
            self._refuse()
        service_token = request.header(b"x-service-token")
        caller = await self._keystone.caller(token, service_token)
        return self._refuse() if caller is None else caller

    async def _tenant(self, token: str, request: Call) -> Caller:
        caller = None if self._tenants is None else await self._tenants.caller(token)
        if caller is None:
            self._refuse()
        named = project_or_none(request.headers)
        if named is None or named == caller.project:
            return caller
        if not is_operator(caller):
            raise ProjectNotPermitted(named)
        return replace(caller, project=named or None)

    def _refuse(self) -> NoReturn:
        raise Unauthorized(
            "The token is not valid: it is unknown, or has expired or been revoked",
            self._challenges,
        )


def authenticator_of(service: Service, keystone: Keystone | None) -> Authenticator:
    """The authenticator that the settings name."""
    settings = service.settings
    if settings.auth == ("none",):
        return TrustedHeaders(settings, service.clock)
    has_tokens = "token" in settings.auth or not settings.auth
    tenants = KnownTokens(service.storage.control.tokens, service.clock) if has_tokens else None
    return VerifiedTokens(settings, service.clock, tenants=tenants, keystone=keystone)
