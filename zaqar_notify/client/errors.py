"""The errors of calls.

ClientError
├── ServiceUnreachable      no answer: refused, cut off, timed out
└── ServiceError            a refusal; the wire's status, title and description
    ├── BadRequest          400
    ├── Unauthorized        401
    ├── Forbidden           403
    ├── NotFound            404
    ├── Conflict            409
    └── ServiceUnavailable  503 or 429, after the retries
"""

from __future__ import annotations


class ServiceWarning(UserWarning):
    """The service took a request, and says that a part of it has no effect."""


class ClientError(Exception):
    """The text is a sentence for people."""


class ServiceUnreachable(ClientError):
    """No answer came. Unless the connection was refused, whether the call took effect is unknown."""


class ServiceError(ClientError):
    """The service answered with an error. `title` and `description` are its words, or empty."""

    def __init__(self, status: int, title: str, description: str) -> None:
        super().__init__(f"{title}: {description}" if description else f"{title} ({status})")
        self.status = status
        self.title = title
        self.description = description


class BadRequest(ServiceError):
    """A value breaks a rule; the description names the field and the limit."""


class Unauthorized(ServiceError):
    """The token is missing or not valid."""


class Forbidden(ServiceError):
    """Not allowed: by policy, or because a claim holds the message."""


class NotFound(ServiceError):
    """The named thing is absent, has expired, or is another project's."""


class Conflict(ServiceError):
    """The request contradicts the stored state."""


class ServiceUnavailable(ServiceError):
    """The store gave no answer, the service is stopping, or the project is over its rate."""


BY_STATUS: dict[int, type[ServiceError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: ServiceUnavailable,
    503: ServiceUnavailable,
}
