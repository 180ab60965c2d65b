"""The HTTP answer to each error: one table, and the few answers that have no error of the domain.

The contract names the statuses. Other statuses (413, 422) are not used, because clients take them for
success; 429 is used only with `ZAQAR_RATE_STATUS=429`.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from api.answers import Answer
from api.refusals import (
    HeaderInvalid,
    MethodNotAllowed,
    NotAcceptable,
    ParameterInvalid,
    ParameterMissing,
    RequestRefused,
    SubscriptionNotConfirmed,
    Unauthorized,
    UnsupportedPatchType,
)
from api.requests import Call
from zaqar_notify.errors import (
    BodyInvalid,
    CannotDecrypt,
    ClaimNotHeld,
    Conflict,
    DoesNotExist,
    FilterFailed,
    FlavorNotChanged,
    FlavorRefused,
    KeystoneUnavailable,
    MessageIsClaimed,
    NotifyError,
    NotPermitted,
    Overloaded,
    PoolInUse,
    PoolRefused,
    ProjectInvalid,
    QueueNameInvalid,
    QuotaExceeded,
    RateExceeded,
    ServiceStopping,
    SignatureRefused,
    StorageUnavailable,
    SubscriptionExists,
    SubscriptionNotChanged,
    TopicNameInvalid,
    ValidationFailed,
)

RESPONSES: dict[type[NotifyError], tuple[HTTPStatus, str]] = {
    ValidationFailed: (HTTPStatus.BAD_REQUEST, "Invalid API request"),
    BodyInvalid: (HTTPStatus.BAD_REQUEST, "Invalid request body"),
    ParameterInvalid: (HTTPStatus.BAD_REQUEST, "Invalid parameter"),
    ParameterMissing: (HTTPStatus.BAD_REQUEST, "Missing parameter"),
    HeaderInvalid: (HTTPStatus.BAD_REQUEST, "Invalid header value"),
    QueueNameInvalid: (HTTPStatus.BAD_REQUEST, "Invalid queue identification"),
    TopicNameInvalid: (HTTPStatus.BAD_REQUEST, "Invalid topic identification"),
    ProjectInvalid: (HTTPStatus.BAD_REQUEST, "Invalid queue identification"),
    UnsupportedPatchType: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "415 Unsupported Media Type"),
    ClaimNotHeld: (HTTPStatus.BAD_REQUEST, "Unable to delete"),
    PoolRefused: (HTTPStatus.BAD_REQUEST, "Unable to create pool"),
    FlavorRefused: (HTTPStatus.BAD_REQUEST, "Unable to create"),
    FlavorNotChanged: (HTTPStatus.BAD_REQUEST, "updatefail"),
    SubscriptionNotChanged: (HTTPStatus.BAD_REQUEST, "Unable to update subscription"),
    SubscriptionNotConfirmed: (HTTPStatus.BAD_REQUEST, "Unable to confirm subscription"),
    Unauthorized: (HTTPStatus.UNAUTHORIZED, "Unauthorized"),
    NotPermitted: (HTTPStatus.FORBIDDEN, "Not authorized"),
    QuotaExceeded: (HTTPStatus.FORBIDDEN, "Quota exceeded"),
    MessageIsClaimed: (HTTPStatus.FORBIDDEN, "Unable to delete"),
    PoolInUse: (HTTPStatus.FORBIDDEN, "Unable to delete"),
    DoesNotExist: (HTTPStatus.NOT_FOUND, "Not found"),
    SignatureRefused: (HTTPStatus.NOT_FOUND, "404 Not Found"),
    Conflict: (HTTPStatus.CONFLICT, "Resource conflict"),
    FilterFailed: (HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error"),
    CannotDecrypt: (HTTPStatus.SERVICE_UNAVAILABLE, "Service temporarily unavailable"),
    Overloaded: (HTTPStatus.SERVICE_UNAVAILABLE, "Service temporarily unavailable"),
    RateExceeded: (HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests"),
    KeystoneUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "Service temporarily unavailable"),
    ServiceStopping: (HTTPStatus.SERVICE_UNAVAILABLE, "Service temporarily unavailable"),
    StorageUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "Service temporarily unavailable"),
}

VARY = (b"Vary", b"Accept")


class KeystoneError(msgspec.Struct):
    """Why a request was refused, as Keystone's own middleware says it."""

    code: int
    title: str
    message: str


class Error(msgspec.Struct):
    """Why a request was refused; `error` says it once more in an answer 401."""

    title: str
    description: str | msgspec.UnsetType = msgspec.UNSET
    error: KeystoneError | msgspec.UnsetType = msgspec.UNSET


def response_for(kind: type[NotifyError]) -> tuple[HTTPStatus, str]:
    return next(RESPONSES[base] for base in kind.__mro__ if base in RESPONSES)


def answer_to(
    error: Exception, call: Call, *, rate_status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE
) -> Answer:
    """The answer to a request that failed.

    Args:
        rate_status: Of the answer to a project that is over a rate.
    """
    if isinstance(error, RateExceeded):
        answer = refusal(error, method=call.method, href=call.href)
        return msgspec.structs.replace(answer, status=rate_status)
    if isinstance(error, NotifyError):
        return refusal(error, method=call.method, href=call.href)
    if isinstance(error, NotAcceptable):
        return NOT_ACCEPTABLE
    if isinstance(error, MethodNotAllowed):
        return method_not_allowed(error.allow)
    if isinstance(error, RequestRefused):
        return refused(error.status, None)
    return failure(call.request_id)


def refusal(error: NotifyError, *, method: str, href: str) -> Answer:
    """The answer to a request that failed with an error of the domain.

    Args:
        href: Link to the resource of the request.
    """
    if isinstance(error, Unauthorized):
        return unauthorized(error)
    status, title = response_for(type(error))
    headers = [VARY]
    if error.retry_after_seconds is not None:
        headers.append((b"Retry-After", b"%d" % error.retry_after_seconds))
    if isinstance(error, HeaderInvalid):
        title = error.title
    elif isinstance(error, SubscriptionExists) and method == "POST":
        headers.append((b"Location", href.encode("ascii")))
    return _error(status, title, error.for_clients or str(error), *headers)


def unauthorized(error: Unauthorized) -> Answer:
    """The answer to a request without a valid token, in Keystone's form and in Zaqar's."""
    status, title = response_for(Unauthorized)
    body = Error(title, str(error), KeystoneError(status, title, str(error)))
    challenges = ((b"WWW-Authenticate", challenge) for challenge in error.challenges)
    return Answer(status, msgspec.json.encode(body), (VARY, *challenges))


def failure(request_id: bytes) -> Answer:
    """The answer to a defect. Its request id leads the operator to the traceback in the log."""
    return _error(
        HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error", request_id.decode("ascii"), VARY
    )


def method_not_allowed(allow: bytes) -> Answer:
    return _error(
        HTTPStatus.METHOD_NOT_ALLOWED, "405 Method Not Allowed", None, VARY, (b"Allow", allow)
    )


NOT_ACCEPTABLE = Answer(HTTPStatus.NOT_ACCEPTABLE, headers=(VARY,))


def refused(status: int, description: str | None) -> Answer:
    """The answer to a refusal by FastAPI or by an added route."""
    kind = HTTPStatus(status)
    title = f"{status} {kind.phrase}"
    return _error(kind, title, None if description == kind.phrase else description, VARY)


def _error(
    status: HTTPStatus, title: str, description: str | None, *headers: tuple[bytes, bytes]
) -> Answer:
    body = Error(title, msgspec.UNSET if description is None else description)
    return Answer(status, msgspec.json.encode(body), headers)
