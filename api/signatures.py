"""Pre-signed requests: their signature is the only evidence of the caller."""

from __future__ import annotations

from datetime import timedelta

from api.headers import project_or_none
from api.requests import Call
from zaqar_notify.auth import Caller, Revocations
from zaqar_notify.clock import Clock
from zaqar_notify.errors import SignatureRefused
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.signing import Signed, verify_url
from zaqar_notify.settings import Settings

_CLOCKS_APART = timedelta(seconds=60)
"""A signature with the longest life may have been made by a process whose clock is ahead by so much."""


class Signatures:
    """Verifies pre-signed requests."""

    def __init__(self, settings: Settings, clock: Clock, revocations: Revocations) -> None:
        self._secrets = [secret.get_secret_value() for secret in settings.signed_url_secrets]
        self._max_seconds = settings.signed_url_max_seconds
        self._clock = clock
        self._revocations = revocations

    async def caller(self, request: Call) -> Caller:
        """The caller that the signature stands for: it has no user, no roles, and the right to what was signed,
        which is of one queue.

        Raises:
            SignatureRefused: The signature does not cover the request, lives longer than it may, or was revoked.
        """
        project = project_or_none(request.headers) or ""
        signed = verify_url(
            self._secrets,
            signature=request.header(b"url-signature") or "",
            paths_header=request.header(b"url-paths") or "",
            methods_header=request.header(b"url-methods") or "",
            expires_header=request.header(b"url-expires") or "",
            project=project,
            method=request.method,
            path=request.path,
            prefix=request.prefix,
            now=self._clock.host_now(),
        )
        queue = request.queue_name
        if queue is None:  # Shares are of queues: a path that leads to none was not signed for.
            raise SignatureRefused
        if not _confirms(signed, request):
            self._check_life(signed)
            await self._revocations.check(QueueRef(project, queue), signed.generation)
        # Its queue alone: by a `queue:` subscriber it would reach any other of the project.
        return Caller(
            project or None,
            signed_paths=signed.paths,
            how="signature",
            queues=queue,
            expires_at=signed.expires,
        )

    def _check_life(self, signed: Signed) -> None:
        longest = timedelta(seconds=self._max_seconds) + _CLOCKS_APART
        if self._max_seconds and signed.expires > self._clock.host_now() + longest:
            raise SignatureRefused


def _confirms(signed: Signed, request: Call) -> bool:
    """Whether the signature is that of a link which confirms a subscription: it covers nothing else."""
    return request.path.endswith("/confirm") and (
        signed.is_only_for(request.path) or signed.is_only_for(request.prefix + request.path)
    )
