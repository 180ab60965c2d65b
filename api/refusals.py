"""Refusals of requests by the API itself, before a service function is called."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar

from zaqar_notify.errors import NotifyError, ValidationFailed


class Unauthorized(NotifyError):
    """The request proves no identity; `challenges` are the values of `WWW-Authenticate`."""

    def __init__(self, description: str, challenges: Sequence[bytes]) -> None:
        super().__init__(description)
        self.challenges = challenges


class ParameterInvalid(ValidationFailed):
    """A query parameter can't be read."""


class ParameterMissing(ValidationFailed):
    """A query parameter is missing that the request needs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The query parameter {name} is required")


class HeaderInvalid(ValidationFailed):
    """A request header is missing or malformed; `title` is the wire's title for it."""

    def __init__(self, title: str, description: str) -> None:
        super().__init__(description)
        self.title = title


class UnsupportedPatchType(ValidationFailed):
    def __init__(self, expected: str) -> None:
        super().__init__(f"The Content-Type of this request must be exactly {expected}")


class SubscriptionNotConfirmed(NotifyError):
    def __init__(self) -> None:
        super().__init__('The body must be an object: {"confirmed": true} or {"confirmed": false}')


class RequestRefused(Exception):
    """A request is refused for its path, method or headers, before the domain is called."""

    status: ClassVar[HTTPStatus]


class PathUnknown(RequestRefused):
    """No resource has the path."""

    status = HTTPStatus.NOT_FOUND


class MethodNotAllowed(RequestRefused):
    """The resource does not have the method; `allow` lists the methods that it has."""

    status = HTTPStatus.METHOD_NOT_ALLOWED

    def __init__(self, allow: bytes) -> None:
        super().__init__(allow)
        self.allow = allow


class NotAcceptable(RequestRefused):
    """The client accepts no content type of the surface."""

    status = HTTPStatus.NOT_ACCEPTABLE
