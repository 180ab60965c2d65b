"""From a request to its caller: one decision for all surfaces.

1. A request with the header `URL-Signature`, also an empty one, is a pre-signed request: the signature must verify. A
   signature in the query is one where the query may have credentials; elsewhere it is refused, because a proxy may have
   let the request through for it.
2. With `ZAQAR_AUTH=none` the request names its project, and tokens are ignored.
3. Else the request's token must verify: the prefix `zqn_` marks a tenant token, any other token is Keystone's. The
   project is the token's.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, NoReturn, Protocol
from urllib.parse import urlsplit

from msgspec.structs import replace

from api.credentials import is_signed_query, token_of
from api.headers import project_or_none, public_name
from api.refusals import HeaderInvalid, ParameterInvalid, Unauthorized
from api.requests import Call
from api.signatures import Signatures
from zaqar_notify.auth import Caller, KnownTokens, Revocations, is_operator
from zaqar_notify.errors import ProjectNotPermitted
from zaqar_notify.rules.tokens import PREFIX
from zaqar_notify.service import Service
from zaqar_notify.settings import AUTH_NONE, Settings

if TYPE_CHECKING:
    from zaqar_notify.auth.keystone.validator import Keystone

BEARER = b'Bearer realm="zaqar-notify"'
MEMBER = frozenset({"member"})


class Authenticator(Protocol):
    def authenticate(self, request: Call) -> Awaitable[Caller]:
        """The caller of the request.

        Raises:
            NotifyError: The request's token or signature does not verify.
        """


class SignatureFirst:
    """Judges a request with `URL-Signature` by the signature alone, and leaves others to another authenticator."""

    def __init__(self, signatures: Signatures, others: Authenticator) -> None:
        self._signatures = signatures
        self._others = others

    def authenticate(self, request: Call) -> Awaitable[Caller]:
        query = request.query_string
        if query and not request.has_taken_query and is_signed_query(query):
            raise ParameterInvalid(
                "Only an event stream (Accept: text/event-stream) and a WebSocket take url_signature from the query; "
                "send it as the header URL-Signature"
            )
        if b"url-signature" in request.headers:
            return self._signatures.caller(request)
        return self._others.authenticate(request)


class TrustedHeaders:
    """Trusts the project that a request names, and the roles and the user that a trusted proxy names.

    Without that proxy it refuses requests to public names except that of the public URL. Else a web page whose name is
    made to mean 127.0.0.1 would be of the service's own origin, and could do everything (DNS rebinding).
    """

    def __init__(self, settings: Settings) -> None:
        self._default_project = settings.default_project or None
        self._has_proxy = settings.trust_proxy
        self._own_name = public_name(urlsplit(settings.public_url).netloc.encode())
        self._roles = MEMBER | {"operator"} if settings.admin_mode else MEMBER

    async def authenticate(self, request: Call) -> Caller:
        headers = request.headers
        if not self._has_proxy:
            self._check_host(headers.get(b"host", b""))
        project = project_or_none(headers)
        project = self._default_project if project is None else project or None
        roles = request.header(b"x-roles") if self._has_proxy else None
        if roles is None:
            return Caller(project, roles=self._roles)
        named = frozenset(role.strip() for role in roles.split(",") if role.strip())
        return Caller(project, request.header(b"x-user-id"), named, how="proxy")

    def _check_host(self, host: bytes) -> None:
        name = public_name(host)
        if name is not None and name != self._own_name:
            raise HeaderInvalid(
                "Invalid header value",
                "The header Host names another host than ZAQAR_PUBLIC_URL. Without tokens requests go to an IP "
                "address, to localhost, to a name without a dot, or to the host of ZAQAR_PUBLIC_URL",
            )


class VerifiedTokens:
    """Believes tenant tokens, Keystone's tokens, or both."""

    def __init__(self, *, tenants: KnownTokens | None, keystone: Keystone | None) -> None:
        self._tenants = tenants
        self._keystone = keystone
        challenges = (
            None if tenants is None else BEARER,
            None if keystone is None else keystone.challenge.encode("latin-1"),
        )
        self._challenges = tuple(each for each in challenges if each is not None)

    async def authenticate(self, request: Call) -> Caller:
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
        # openstacksdk sends an empty header where it does not know the project.
        if not named or named == caller.project:
            return caller
        if not is_operator(caller):
            raise ProjectNotPermitted(named)
        return replace(caller, project=named)

    def _refuse(self) -> NoReturn:
        raise Unauthorized(
            "The token is not valid: it is unknown, or has expired or been revoked",
            self._challenges,
        )


def authenticator_of(service: Service, keystone: Keystone | None) -> Authenticator:
    """The authenticator that the settings name."""
    revocations = Revocations(service.storage.control.shares)
    signatures = Signatures(service.settings, service.clock, revocations)
    return SignatureFirst(signatures, _without_signature(service, keystone))


def _without_signature(service: Service, keystone: Keystone | None) -> Authenticator:
    settings = service.settings
    if settings.auth == AUTH_NONE:
        return TrustedHeaders(settings)
    has_tokens = "token" in settings.auth or not settings.auth
    tenants = None
    if has_tokens:
        tenants = KnownTokens(
            service.storage.control.tokens,
            service.clock,
            most_waiting=settings.most_waiting_for_callers,
        )
    return VerifiedTokens(tenants=tenants, keystone=keystone)
