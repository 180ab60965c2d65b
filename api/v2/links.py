"""Pages behind the links of mails: to confirm a subscription, and to end its mails. No account is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias
from urllib.parse import quote

from api.answers import Answer
from api.errors import response_for
from api.pages import page
from api.requests import Call
from api.resources import UNGUARDED, Body, Handler, Operation, Parameter, Reply, Resource
from api.zaqar.query import Query
from zaqar_notify import subscriptions
from zaqar_notify.delivery.links import Purpose
from zaqar_notify.delivery.subscribers import shown_to_addressee
from zaqar_notify.errors import LinkNotValid
from zaqar_notify.models import Subscription
from zaqar_notify.rules.formats import FORMAT_KEY, Format
from zaqar_notify.service import Service

Step: TypeAlias = Callable[[Service, str, Call], Awaitable[Answer]]
"""Answers the request with a token."""


def _for_people(step: Step) -> Handler:
    """The handler that answers with a page if the link is not valid."""

    @wraps(step)
    async def handler(service: Service, call: Call) -> Answer:
        try:
            return await step(service, Query(call.query_string).text("token") or "", call)
        except LinkNotValid:
            return _NOT_VALID

    return handler


@_for_people
async def ask_to_confirm(service: Service, token: str, call: Call) -> Answer:
    found = await subscriptions.linked(service, token, Purpose.CONFIRM)
    if found.options.get(FORMAT_KEY) == Format.SNS and call.method == "GET":
        # A program that was written for SNS opens the link to confirm. Mails and chats get no such envelopes.
        found = await subscriptions.confirm_by_link(service, token)
    if found.confirmed:
        return _confirmed(found)
    return page(
        "Confirm this subscription?",
        f"{_messages_of(found)} will then be sent to {_addressee(found)}.",
        "If you did not ask for this, close this page: nothing changes.",
        button="Confirm",
    )


@_for_people
async def confirm(service: Service, token: str, _: Call) -> Answer:
    return _confirmed(await subscriptions.confirm_by_link(service, token))


@_for_people
async def ask_to_unsubscribe(service: Service, token: str, _: Call) -> Answer:
    found = await subscriptions.linked(service, token, Purpose.UNSUBSCRIBE)
    return page(
        "Unsubscribe?",
        f"{_messages_of(found)} are sent to {_addressee(found)}.",
        f"After you have unsubscribed, {_rest_of(service, found)} nothing more to this address.",
        button="Unsubscribe",
    )


@_for_people
async def unsubscribe(service: Service, token: str, _: Call) -> Answer:
    found = await subscriptions.unsubscribe_by_link(service, token)
    return page(
        "You have unsubscribed",
        f"From now on {_rest_of(service, found)} nothing more to {_addressee(found)}.",
        "Was this a mistake?",
        button="Subscribe again",
        # Relative, because a proxy may serve this below another path.
        target=f"{Purpose.CONFIRM}?token={subscriptions.token_to_come_back(service, found)}",
    )


def _confirmed(found: Subscription) -> Answer:
    return page(
        "The subscription is confirmed",
        f"{_messages_of(found)} are sent to {_addressee(found)}.",
        "You can close this page.",
    )


def _messages_of(found: Subscription) -> str:
    ref = found.queue
    kind = "topic" if ref.is_topic else "queue"
    return f"Messages of the {kind} {ref.public_name} of the project {_project_of(found)}"


def _rest_of(service: Service, found: Subscription) -> str:
    """The beginning of the sentence that a link to unsubscribe ends: of a person all of the project's mails."""
    is_person = subscriptions.addressee_of(service, found.subscriber) is not None
    return f"the project {_project_of(found)} sends" if is_person else "the subscription sends"


def _project_of(found: Subscription) -> str:
    """The name of the project. It may be any text of its owner, and is escaped so that it can't carry a message to the
    addressee."""
    return quote(found.queue.project, safe="")


def _addressee(found: Subscription) -> str:
    return shown_to_addressee(found.subscriber)


_NOT_VALID = page(
    "This link does not work any more",
    "It has expired, or its subscription has ended or was changed. Nothing was changed now.",
    status=response_for(LinkNotValid)[0],
)

_TOKEN = Parameter("token", "The token of the link.", str, "kqVkZW1v…")
_HTML = "text/html; charset=utf-8"
_EXAMPLE = "<!doctype html>…"


def _pages(
    purpose: Purpose, asking: Handler, doing: Handler, *, end: str, done: str, **more: Any
) -> Resource:
    """The page that asks, and the one that says that it is done.

    Args:
        end: The end of sentences about a link for this purpose.
        more: Of the operation that does it.
    """
    not_valid = Reply("The link does not work any more", _EXAMPLE, content_type=_HTML)
    return Resource(
        purpose.path,
        {
            "GET": Operation(
                asking,
                UNGUARDED,
                f"Show the page behind a link that {end}",
                {
                    200: Reply("The page; its button posts", _EXAMPLE, content_type=_HTML),
                    404: not_valid,
                },
                description="It changes nothing, because scanners of mail and browsers open links by themselves. A "
                "webhook with SNS envelopes alone confirms by opening its link, as with SNS.",
                query=(_TOKEN,),
            ),
            "POST": Operation(
                doing,
                UNGUARDED,
                f"Use a link that {end}",
                {200: Reply(done, _EXAMPLE, content_type=_HTML), 404: not_valid},
                description="The token of the link is the permission. The body is not read.",
                query=(_TOKEN,),
                **more,
            ),
        },
        is_open=True,
    )


RESOURCES = (
    _pages(
        Purpose.CONFIRM,
        ask_to_confirm,
        confirm,
        end="confirms a subscription",
        done="Confirmed",
    ),
    _pages(
        Purpose.UNSUBSCRIBE,
        ask_to_unsubscribe,
        unsubscribe,
        end="unsubscribes an addressee",
        done="The address gets nothing more from the project",
        body=Body(
            "List-Unsubscribe=One-Click",
            required=False,
            content_type="application/x-www-form-urlencoded",
        ),
    ),
)
