"""The part of the documentation that all resources of the Zaqar API share."""

from __future__ import annotations

from http import HTTPStatus

from api.errors import RESPONSES, Error
from api.refusals import NotAcceptable, ParameterInvalid
from api.resources import Parameter
from api.surfaces import Documented
from api.zaqar.examples import CERTIFICATE_NAME, CLAIM_ID, MESSAGE_ID, SUBSCRIPTION_ID
from zaqar_notify.errors import FLAVOR_NAME_RULE, POOL_NAME_RULE, QUEUE_NAME_RULE

CLIENT_ID = "3381af92-2b9e-11e3-b191-71861300734c"


def _meanings() -> dict[int, str]:
    """The titles of the errors, by status."""
    titles: dict[int, dict[str, None]] = {}
    for status, title in RESPONSES.values():
        titles.setdefault(status, {})[title] = None
    named = {status: "; ".join(each) for status, each in titles.items()}
    return named | {HTTPStatus.NOT_ACCEPTABLE: "The client takes no JSON"}


DOCUMENTED = Documented(
    headers=(
        Parameter("Client-ID", "A UUID that the client chose for itself.", str, CLIENT_ID),
        Parameter("X-Project-ID", "The project (tenant); a token names it by itself.", str, "demo"),
    ),
    names={
        "queue_name": Parameter("queue_name", QUEUE_NAME_RULE, str, "demo"),
        "topic_name": Parameter("topic_name", QUEUE_NAME_RULE, str, "demo"),
        "message_id": Parameter("message_id", "The message's id.", str, MESSAGE_ID),
        "delivery_id": Parameter(
            "delivery_id", "The delivery's id.", str, "msg_2b0a6f0f4b8d4b3a9c1d5e7f90a1b2c3"
        ),
        "token_id": Parameter(
            "token_id", "The token's id.", str, "0661794c5e3a40b6c1f2a93d5e7b8c90"
        ),
        "project_id": Parameter("project_id", "The project whose quotas they are.", str, "demo"),
        "claim_id": Parameter("claim_id", "The claim's id.", str, CLAIM_ID),
        "certificate_name": Parameter(
            "certificate_name", "The name of a certificate.", str, CERTIFICATE_NAME
        ),
        "subscription_id": Parameter(
            "subscription_id", "The subscription's id.", str, SUBSCRIPTION_ID
        ),
        "suppression_id": Parameter(
            "suppression_id", "The suppression's id.", str, "5d41402abc4b2a76b9719d911017c592"
        ),
        "pool_name": Parameter("pool_name", POOL_NAME_RULE, str, "db2"),
        "replay_id": Parameter(
            "replay_id", "Id of a replay or redrive.", str, "6e8f5c2b4a3d4f0e9b7a1c2d3e4f5a6b"
        ),
        "move_id": Parameter("move_id", "Id of a move.", str, "6e8f5c2b4a3d4f0e9b7a1c2d3e4f5a6b"),
        "flavor_name": Parameter("flavor_name", FLAVOR_NAME_RULE, str, "durable"),
    },
    refuses=(ParameterInvalid("limit must be from 1 to 20, not 21"), NotAcceptable()),
    error=Error,
    meanings=_meanings(),
)
