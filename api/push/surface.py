"""All actions, the surface that the gate judges them by, and the form of their errors."""

from __future__ import annotations

import re

from api.answers import Answer, document
from api.authentication import Authenticator
from api.errors import response_for
from api.push import claims, messages, queues, subscriptions
from api.push.actions import by_name
from api.push.calls import admit
from api.push.frames import FrameInvalid
from api.refusals import Unauthorized
from api.requests import Call
from api.surfaces import Surface
from zaqar_notify.errors import NotifyError, SignatureRefused

ACTIONS = by_name((*queues.ACTIONS, *messages.ACTIONS, *claims.ACTIONS, *subscriptions.ACTIONS))

_MISSING = re.compile(r"missing required field `(\w+)`")
_WRONG_TYPE = re.compile(r"Expected `(int)[^`]*`, got `\w+` - at `\$.*\.(\w+)`")

NOT_AUTHENTICATED = document({"error": "Not authentified."}, 403)
AUTHENTICATED = document({"message": "Authentified."})
AUTHENTICATION_FAILED = document({"error": "Authentication failed."}, 401)


def surface(authenticator: Authenticator) -> Surface:
    """The WebSocket API as a surface; its resources stand for actions, and no path leads to them."""
    resources = tuple(action.resource for action in ACTIONS.values())
    return Surface("", resources, authenticator, admit, error_answer)


def error_answer(error: Exception, call: Call | None) -> Answer:
    """The answer to a frame that failed; `error` is the sentence that clients show."""
    if isinstance(error, Unauthorized | SignatureRefused):
        return NOT_AUTHENTICATED
    if isinstance(error, FrameInvalid):
        return document({"error": str(error)}, 400)
    if isinstance(error, NotifyError):
        status, title = response_for(type(error))
        sentence = error.for_clients or str(error)
        return document(
            {"error": sentence, "exception": _in_zaqar_s_words(sentence, title)}, status
        )
    request_id = "" if call is None else call.request_id.decode()
    return document({"error": "Unexpected error.", "exception": request_id}, 500)


def _in_zaqar_s_words(sentence: str, title: str) -> str:
    """Zaqar's sentence about a missing field or a wrong type, which its clients' tests compare; else the title."""
    if missing := _MISSING.search(sentence):
        return f'Bad request. Missing "{missing[1]}" field.'
    if wrong := _WRONG_TYPE.search(sentence):
        return f'Bad request. The value of the "{wrong[2]}" field must be a {wrong[1]}.'
    return title
