"""The caller of a socket: from the headers of its handshake, and of its `authenticate` frames."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from api.push.calls import (
    CLIENT_ID,
    PROJECT,
    SIGNATURE,
    header,
    signature_headers,
)
from zaqar_notify.auth import Caller
from zaqar_notify.settings import AUTH_NONE, Settings

_OF_PROJECT = frozenset({b"x-project-id", b"x-tenant-id"})
_ALWAYS = frozenset({b"host"})
_OF_PROXY = frozenset({b"x-roles", b"x-user-id"}) | _OF_PROJECT
_CREDENTIALS = frozenset(
    {
        b"authorization",
        b"x-auth-token",
        b"url-signature",
        b"url-expires",
        b"url-methods",
        b"url-paths",
    }
)
_TOKEN = "X-Auth-Token"  # noqa: S105 - the name of a header


class Identity:
    """The headers with which each frame of a socket is judged.

    A frame adds its `Client-ID`, and its project where nothing else names one. Without tokens a project that the
    handshake names is that of all frames: a proxy may have put it there, which can't see into frames. A proxy that is
    trusted names the user and the roles, too, and no frame names a project.
    """

    def __init__(self, handshake: Mapping[bytes, bytes], settings: Settings) -> None:
        self._is_open = settings.auth == AUTH_NONE
        kept = _ALWAYS
        if self._is_open:
            kept |= _OF_PROXY if settings.trust_proxy else _OF_PROJECT
        self._base = {name: value for name, value in handshake.items() if name in kept}
        self._is_bound = settings.trust_proxy or bool(_OF_PROJECT & self._base.keys())
        credentials = {n: v for n, v in handshake.items() if n in _CREDENTIALS}
        if credentials and b"x-project-id" in handshake:
            credentials[b"x-project-id"] = handshake[b"x-project-id"]
        self._credentials: dict[bytes, bytes] = credentials
        self.caller: Caller | None = None
        """The caller, once a token has proved one."""
        self.is_proved = self._is_open
        """Whether a caller was proved, perhaps by a signed frame, which stands for itself alone."""

    @property
    def asks_for_tokens(self) -> bool:
        return not self._is_open

    @property
    def has_token(self) -> bool:
        """Whether a token came with the handshake, and is asked for."""
        tokens = {b"authorization", b"x-auth-token"}
        is_signed = b"url-signature" in self._credentials
        return not self._is_open and not is_signed and bool(tokens & self._credentials.keys())

    @property
    def needs_frame(self) -> bool:
        """Whether no frame is answered before one that authenticates."""
        return not self._is_open and not self._credentials

    def headers(self, given: Mapping[str, msgspec.Raw]) -> tuple[dict[bytes, bytes], str | None]:
        """The headers of a frame's call, and the project that the frame names.

        Raises:
            FrameInvalid: A header is no text.
            HeaderInvalid: HTTP could not carry it.
        """
        headers = {**self._base, **self._credentials}
        client_id, project = (
            header(given.get(CLIENT_ID), CLIENT_ID),
            header(given.get(PROJECT), PROJECT),
        )
        if client_id is not None:
            headers[b"client-id"] = client_id
        is_signed = SIGNATURE[0] in given and not self._credentials
        if is_signed:
            headers |= signature_headers(given)
        if project is not None and (is_signed or not self._is_bound):
            headers[b"x-project-id"] = project
        return headers, project.decode("latin-1") if project else None

    def proof(self, given: Mapping[str, msgspec.Raw]) -> dict[bytes, bytes]:
        """The headers of an `authenticate` frame, by which the caller is found."""
        headers = dict(self._base)
        for name in (_TOKEN, PROJECT):
            value = header(given.get(name), name)
            if value is not None:
                headers[name.lower().encode()] = value
        return headers

    def note(self, caller: Caller) -> None:
        """A frame of this caller was let through."""
        self.is_proved = True
        if self._credentials and self.caller is None and caller.how != "signature":
            self.caller = caller

    def become(self, caller: Caller, proof: Mapping[bytes, bytes]) -> None:
        """From now on, frames are of this caller."""
        self.caller, self.is_proved = caller, True
        self._credentials = {name: value for name, value in proof.items() if name not in self._base}

    def probe(self) -> dict[bytes, bytes]:
        """The headers by which it is seen whether the caller is still known."""
        return {**self._base, **self._credentials}
