"""Clients of the crash tests ask again after a 503 that invites them to, and take no other one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.faults.wire import Wire
from tests.sinks.receiver import Behaviour, Receiver, answer, hang_up, receiving

BUSY = answer(503, Retry_After="1")
PATH = "/v2/queues/events/messages"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def wire(receiver: Receiver) -> AsyncIterator[Wire]:
    async with aiohttp.ClientSession() as session:
        yield Wire(session, [receiver.url("")], "project")


def one_after_another(*behaviours: Behaviour) -> Behaviour:
    """Each of them once."""
    waiting = list(behaviours)

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await waiting.pop(0)(reader, writer)

    return behaviour


async def test_what_gets_no_answer_is_asked_again_with_the_same_headers(
    receiver: Receiver, wire: Wire
) -> None:
    receiver.behaviour = one_after_another(BUSY, hang_up, answer(201))

    answered = await wire.ask("POST", PATH, {}, headers={"Idempotency-Key": "k"}, expected={201})

    assert answered.tries == 3
    assert wire.answers_of_503 == 1
    assert answered.first_asked_at < answered.asked_at
    assert [request.headers["idempotency-key"] for request in receiver.requests] == ["k"] * 3


@pytest.mark.parametrize("behaviour", [BUSY, hang_up])
async def test_what_is_asked_once_is_not_asked_again(
    receiver: Receiver, wire: Wire, behaviour: Behaviour
) -> None:
    receiver.behaviour = behaviour

    assert await wire.ask_once("POST", PATH, {}, expected={201}) is None
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("behaviour", [answer(503), answer(503, Retry_After="soon")])
async def test_a_503_has_to_say_in_how_many_seconds_to_come_again(
    receiver: Receiver, wire: Wire, behaviour: Behaviour
) -> None:
    receiver.behaviour = behaviour

    with pytest.raises(AssertionError, match="Retry-After"):
        await wire.ask_once("POST", PATH, {}, expected={201})


async def test_an_answer_that_is_not_expected_is_an_error(receiver: Receiver, wire: Wire) -> None:
    receiver.behaviour = answer(500)

    with pytest.raises(AssertionError, match="500"):
        await wire.ask("POST", PATH, {}, expected={201})
