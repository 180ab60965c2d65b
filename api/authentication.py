"""From a request to its caller."""

from __future__ import annotations

from typing import Protocol

from api.headers import project_or_none
from api.requests import Call
from zaqar_notify.auth import Caller
from zaqar_notify.clock import Clock, host_now
from zaqar_notify.rules.signing import verify_url
from zaqar_notify.settings import Settings


class Authenticator(Protocol):
    async def authenticate(self, request: Call) -> Caller:
        """The caller of the request.

        Raises:
            NotifyError: The request's token or signature does not verify.
        """


class TrustedHeaders:
    """Trusts the project that a request names. A pre-signed request's signature must verify."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._secrets = [secret.get_secret_value() for secret in settings.signed_url_secrets]
        self._clock = clock
        self._roles = frozenset(("member", "operator") if settings.admin_mode else ("member",))

    async def authenticate(self, request: Call) -> Caller:
        project = project_or_none(request.headers) or None
        if b"url-signature" in request.headers:
            paths = self._signed_paths(request, project)
            return Caller(project, signed_paths=paths, how="signature")
        return Caller(project, roles=self._roles)

    def _signed_paths(self, request: Call, project: str | None) -> tuple[str, ...]:
        """The paths that the signature covers.

        Raises:
            SignatureRefused: The signature does not cover the request.
        """
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
        return tuple(paths.split(","))
