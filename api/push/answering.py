"""From a frame to its answer: the frame is judged by the gate, as the HTTP request that would do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from api.answers import Answer
from api.gate import Gate
from api.push.actions import AUTHENTICATE, SUBSCRIBE, Action
from api.push.calls import CLIENT_ID, FrameCall
from api.push.exchange import UNKNOWN, FrameExchange
from api.push.frames import Data, FrameInvalid
from api.push.holdings import Holdings
from api.push.identity import Identity
from api.push.limits import SocketLimits, TooManySockets
from api.push.subscribing import Subscribing
from api.push.surface import (
    ACTIONS,
    AUTHENTICATED,
    AUTHENTICATION_FAILED,
    NOT_AUTHENTICATED,
    error_answer,
)
from api.records import WRITING, audit, note_failure, note_success
from api.refusals import Unauthorized
from api.requests import LARGE_BODY_BYTES
from api.surfaces import Surface
from api.turns import Turns
from zaqar_notify.auth import Caller
from zaqar_notify.errors import NotifyError, SignatureRefused
from zaqar_notify.models import QueueRef
from zaqar_notify.service import Service

EXPIRED = (4003, "Authentication expired.")
TOO_MANY = (1008, "Too many connections.")


class Parts(NamedTuple):
    """The parts of the application that every socket uses."""

    service: Service
    surface: Surface
    gate: Gate
    turns: Turns
    limits: SocketLimits
    holdings: Holdings
    request_ids: Iterator[bytes]


class Reply(NamedTuple):
    """The frame that answers; with `ending`, the code and the reason with which the socket is closed after it."""

    frame: Data | None
    ending: tuple[int, str] | None = None


class Answering:
    """Answers the frames of one socket.

    Args:
        count: Told the project of each frame, and of the caller; it may refuse with `TooManySockets`.
    """

    def __init__(
        self,
        parts: Parts,
        identity: Identity,
        subscribing: Subscribing,
        count: Callable[[str], None],
    ) -> None:
        self._service, self._surface, self._gate = parts.service, parts.surface, parts.gate
        self._request_ids = parts.request_ids
        self._identity = identity
        self._subscribing = subscribing
        self._count = count
        self._signed: dict[QueueRef, FrameCall] = {}
        """The requests whose signatures subscribed the socket to queues."""

    async def answer(self, data: Data) -> Reply:
        """The answer to one frame."""
        exchange, ending = FrameExchange(data, next(self._request_ids)), None
        try:
            answer = await self._judge(exchange)
        except Exception as error:  # Outermost place: a defect is logged here, once.
            note_failure(error, self._service, exchange.facts())
            answer = error_answer(error, exchange.call)
            if isinstance(error, Unauthorized) and self._identity.caller is not None:
                return Reply(None, EXPIRED)
            if isinstance(error, TooManySockets):
                ending = TOO_MANY
        self._note(exchange, answer.status)
        return Reply(exchange.answer(status=answer.status, content=answer.whole), ending)

    def callers(self) -> list[Caller]:
        """The callers with whose right the socket goes on without being asked anything."""
        own = self._identity.caller
        return [*([] if own is None else [own]), *(call.caller for call in self._signed.values())]

    async def prove_handshake(self) -> tuple[int, str] | None:
        """Find the caller whose token came with the handshake; how the socket ends, if the caller has too many."""
        try:
            caller = await self._gate.caller(self._surface, self._probe(self._identity.probe()))
            if caller.project is not None:
                self._count(caller.project)
        except TooManySockets:
            return TOO_MANY
        except NotifyError:
            return None
        self._identity.note(caller)
        return None

    async def is_known(self) -> bool:
        """Whether the caller of the socket may still be believed; True when that can't be found out now."""
        proofs: list[FrameCall] = list(self._signed.values())
        if self._identity.caller is not None:
            proofs.append(self._probe(self._identity.probe()))
        try:
            for proof in proofs:
                await self._gate.caller(self._surface, proof)
        except (Unauthorized, SignatureRefused):
            return False
        except NotifyError:
            return True
        return True

    async def _judge(self, exchange: FrameExchange) -> Answer:
        if exchange.size > LARGE_BODY_BYTES:
            caller = self._identity.caller
            await self._gate.turn_of_large(None if caller is None else caller.project)
        exchange.read()
        if exchange.action == AUTHENTICATE:
            return await self._authenticate(exchange)
        name = exchange.action or ""
        action = ACTIONS.get(name)
        if action is None:
            raise FrameInvalid(f"{name[:80]} is not a valid action")
        call = exchange.call = self._call(action, exchange)
        if self._identity.needs_frame and b"url-signature" not in call.headers:
            return NOT_AUTHENTICATED
        answer = await self._gate.answer(self._surface, action.resource, call)
        self._identity.note(call.caller)
        note_success(call, self._service, exchange.facts)
        if call.caller.how == "signature" and exchange.action == SUBSCRIBE:
            call.text = b""
            self._signed[call.ref] = call
        return answer

    def _call(self, action: Action, exchange: FrameExchange) -> FrameCall:
        if CLIENT_ID not in exchange.headers:
            raise FrameInvalid(f"Schema validation failed. The header {CLIENT_ID} is required")
        text = bytes(exchange.body)
        fields = action.read(text)
        headers, named = self._identity.headers(exchange.headers)
        names = action.names(fields)
        call = FrameCall(
            method=action.method,
            path=action.resource.path.format_map(names),
            names=names,
            headers=headers,
            request_id=exchange.request_id,
            fields=fields,
            text=text,
        )
        call.named_project, call.needs_client_id = named, action.needs_client_id
        call.subscribing, call.is_binary = self._subscribing, exchange.is_binary
        call.when_admitted = self._count
        return call

    async def _authenticate(self, exchange: FrameExchange) -> Answer:
        proof = self._identity.proof(exchange.headers)
        exchange.headers = {}  # As Zaqar does, and so no answer repeats the token.
        if not self._identity.asks_for_tokens:
            return AUTHENTICATED
        try:
            caller = await self._gate.caller(self._surface, self._probe(proof))
        except Unauthorized:
            return AUTHENTICATION_FAILED
        if caller.project is not None:
            self._count(caller.project)
        self._identity.become(caller, proof)
        return AUTHENTICATED

    def _probe(self, headers: dict[bytes, bytes]) -> FrameCall:
        """A call that asks for nothing, by which the caller is found."""
        return FrameCall(
            method="GET",
            path="/v2/",
            names={},
            headers=headers,
            request_id=next(self._request_ids),
        )

    def _note(self, exchange: FrameExchange, status: int) -> None:
        name, call = exchange.action or UNKNOWN, exchange.call
        action = ACTIONS.get(name)
        if action is None and name != AUTHENTICATE:
            name = UNKNOWN
        self._service.metrics.sockets.frames[name, status] += 1
        exchange.log(name, status)
        if action and call and self._service.settings.audit and call.method in WRITING:
            audit(call, action.resource, status, exchange.facts())
