"""Requests on the wire: headers, retries, and errors as ours."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import TypeAlias

import msgspec
import requests
from requests.auth import AuthBase
from urllib3.exceptions import MaxRetryError, NewConnectionError

from zaqar_notify.client.errors import BY_STATUS, ServiceError, ServiceUnreachable

Parameters: TypeAlias = Mapping[str, str | int | bool | None]

CONNECT_TIMEOUT_SECONDS = 3.05
PAUSES_SECONDS = (0.1, 0.3, 1.0)
"""Between the tries of one call."""

PATIENT_PAUSES_SECONDS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 15.0)
"""For readers that follow a queue: long enough for a service to be restarted."""

_EXPIRED = "certificate has expired"
_NEW_CERTIFICATE = "The operator of the service must renew it"
_OTHER_NAMES = (
    "Name the file of its CA with --ca-file or ZAQAR_CA_FILE, and the service by a name in the "
    "certificate"
)
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')

LONGEST_RETRY_AFTER_SECONDS = 20
"""The longest pause that a call makes before another try. Longer ones raise the error at once."""


class Transport:
    """One service, one project, one client id. Safe to close from another thread."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        token: str | None,
        timeout_seconds: float,
        pauses_seconds: Sequence[float],
        session: requests.Session | None,
        ca_file: str | None,
        on_warning: Callable[[str], None],
    ) -> None:
        """A session passed in is left open.

        Raises:
            ServiceUnreachable: There is no file of this name.
        """
        if ca_file is not None and not Path(ca_file).is_file():
            raise ServiceUnreachable(f"There is no file {ca_file} with the certificate of a CA")
        self.url = url.rstrip("/").removesuffix("/v2")
        self._headers = headers
        self._auth = _Bearer(token.strip()) if token else None
        self._timeout_seconds = timeout_seconds
        self._pauses_seconds = pauses_seconds
        self._session = session or requests.Session()
        self._owns_session = session is None
        self._ca_file = ca_file
        self._closed = threading.Event()
        self._on_warning = on_warning

    def close(self) -> None:
        """Close the connections, and end the pause of a call that is about to try again."""
        self._closed.set()
        if self._owns_session:
            self._session.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        pauses_seconds: Sequence[float] | None = None,
        wait: int = 0,
    ) -> requests.Response:
        """Send until there is an answer, or the pauses between tries are used up.

        Args:
            repeatable: Making the call twice does no harm. Other calls are sent again only when their
                connection was refused.
            wait: How long the service may hold the answer back, seconds.

        Raises:
            ServiceUnreachable: No answer.
            ServiceError: An answer other than 2xx.
        """
        pauses = list(self._pauses_seconds if pauses_seconds is None else pauses_seconds)
        while True:
            try:
                answer = self._try(method, path, parameters, body, headers, wait)
            except requests.RequestException as error:
                if pauses and (repeatable or _was_never_sent(error)):
                    self._pause(pauses.pop(0))
                    continue
                raise self._unreachable(error) from error
            if answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
                for warning in _warnings(answer):
                    self._on_warning(warning)
                return answer
            asked_seconds = _retry_after_seconds(answer)
            if not (pauses and repeatable and asked_seconds <= LONGEST_RETRY_AFTER_SECONDS):
                raise _error_of(answer)
            self._pause(max(pauses.pop(0), asked_seconds))

    def _try(
        self,
        method: str,
        path: str,
        parameters: Parameters | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        wait: int,
    ) -> requests.Response:
        return self._session.request(
            method,
            self.url + path,
            params=_query(parameters or {}),
            data=body,
            headers={**self._headers, **(headers or {})},
            auth=self._auth,
            timeout=(CONNECT_TIMEOUT_SECONDS, self._timeout_seconds + wait),
            allow_redirects=False,
            # Given with each request: otherwise the environment wins over the session's own.
            verify=self._ca_file,
        )

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise ServiceUnreachable(f"The client was closed while it waited for {self.url}")

    def _unreachable(self, error: requests.RequestException) -> ServiceUnreachable:
        if _was_never_sent(error):
            return ServiceUnreachable(
                f"Nothing answers at {self.url}: start the service with `zaqar-notify up`, "
                "or say where it is with --url or ZAQAR_URL"
            )
        distrust = _distrust(error)
        if distrust is not None:
            remedy = _NEW_CERTIFICATE if distrust == _EXPIRED else _OTHER_NAMES
            return ServiceUnreachable(
                f"The certificate of {self.url} is not trusted here: {distrust}. {remedy}"
            )
        if isinstance(error, requests.Timeout):
            return ServiceUnreachable(
                f"{self.url} did not answer within {self._timeout_seconds:g} seconds"
            )
        return ServiceUnreachable(f"{self.url} gave no answer: {type(error).__name__}")


class _Bearer(AuthBase):
    """Sends the token. A header alone would give way to the entry of the host in `~/.netrc`."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _query(parameters: Parameters) -> dict[str, str]:
    """The parameters that were given, booleans as the wire spells them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None
    }


def _was_never_sent(error: requests.RequestException) -> bool:
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _distrust(error: requests.RequestException) -> str | None:
    """Why the service's certificate is not trusted; None: that is not the reason."""
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else None
    for part in reason.args if isinstance(reason, Exception) else ():
        if isinstance(part, SSLCertVerificationError):
            return part.verify_message
    return None


def _warnings(answer: requests.Response) -> list[str]:
    """The service's warnings about a request that it accepted."""
    quoted = _WARNING.findall(answer.headers.get("Warning", ""))
    return [re.sub(r"\\(.)", r"\1", text) for text in quoted]


def _retry_after_seconds(answer: requests.Response) -> float:
    """How long a 503 or 429 asks to wait; infinity for answers that another try won't change."""
    if answer.status_code not in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        return float("inf")
    asked = answer.headers.get("Retry-After", "0")
    return int(asked) if asked.isdecimal() else 0


class _ErrorBody(msgspec.Struct):
    title: str = ""
    description: str = ""


def _error_of(answer: requests.Response) -> ServiceError:
    try:
        body = msgspec.json.decode(answer.content, type=_ErrorBody)
    except msgspec.DecodeError:
        body = _ErrorBody()
    kind = BY_STATUS.get(answer.status_code, ServiceError)
    return kind(answer.status_code, body.title or answer.reason, body.description)
