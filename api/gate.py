"""The one gate that every request passes on its way to a handler."""

from __future__ import annotations

import asyncio
import random
from functools import partial

from api.answers import Answer
from api.credentials import take_query
from api.headers import prefers_events
from api.in_flight import InFlight
from api.refusals import MethodNotAllowed
from api.requests import Call
from api.resources import Handler, Lasting, Operation, Resource
from api.surfaces import Surface
from api.turns import Line, Metered, Turns
from zaqar_notify.auth import Caller, Policy, Target, check_right
from zaqar_notify.delivery.installation import has_proof, installation_mark, is_own_delivery
from zaqar_notify.errors import (
    NotifyError,
    Overloaded,
    OwnDelivery,
    RateExceeded,
    SignatureRefused,
)
from zaqar_notify.service import Service

_READING = frozenset({"GET", "HEAD"})
HELD_BACK_SECONDS = 0.5
"""For so long, on average, the answer to a project that is over its rate is held back."""
_UNPROVEN = frozenset({"none", "proxy"})
"""Callers that gave neither a token nor a signature; a webhook of ours could be one."""


class Gate:
    """Calls the handlers of well-formed, authenticated and permitted requests; refuses others."""

    def __init__(self, service: Service, policy: Policy, turns: Turns) -> None:
        settings, metrics = service.settings, service.metrics
        self._in_flight = InFlight(
            most_requests=settings.max_requests,
            most_body_bytes=settings.max_body_bytes,
            overloads=metrics.overloads,
        )
        metrics.in_flight = lambda: self._in_flight.count
        self._service = service
        self._policy = policy
        self._turns = turns
        self._mark = installation_mark(service.settings)

    def fault(self, call: Call) -> NotifyError | None:
        """The error of a request that is refused on every path; None: it is not refused here."""
        if is_own_delivery(call.headers, self._mark) and not has_proof(call.headers):
            return OwnDelivery()
        return call.fault

    async def answer(self, surface: Surface, resource: Resource, call: Call) -> Answer:
        """The handler's answer to the request.

        The contract names the order of checks: the caller, the headers, the method, the policy.
        Then the request is counted for its project's rate.

        Raises:
            Overloaded: Too many requests are being answered.
        """
        fault = self.fault(call)
        if fault is not None:
            raise fault
        if call.method == "OPTIONS":
            return resource.options()
        call.admitted = self._in_flight.begin()
        try:
            return await self._admitted_answer(surface, resource, call)
        except RateExceeded:
            # Clients that repeat at once load the process little then, and not all at the same time.
            call.admitted.rest()
            await asyncio.sleep(HELD_BACK_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            raise
        finally:
            call.admitted.end()

    async def _admitted_answer(self, surface: Surface, resource: Resource, call: Call) -> Answer:
        call.policy = self._policy
        operation = resource.by_method.get(call.method)
        if operation is not None and operation.events is not None:
            call.is_stream = prefers_events(call.headers.get(b"accept", b""))
        if call.is_stream:
            take_query(call, has_proxy=self._service.settings.trust_proxy)
        if not resource.is_open:
            call.caller = caller = await self.caller(surface, call)
            if caller.signed_paths and not resource.is_signable:
                raise SignatureRefused
            call.needs_project = resource.needs_project
            surface.admit(call, self._service.settings)
            call.admitted.belongs_to(call.project)
        if operation is None:
            raise MethodNotAllowed(resource.allow)
        if operation.rule is not None:
            self._check_rule(operation.rule, call)
        if resource.is_open:
            return await operation.handler(self._service, call)
        await self._service.quotas.admit_request(call.project)
        if call.is_stream and operation.events is not None:
            check = partial(self._check_caller, surface, operation, call)
            lasting = Lasting(self._turns.of(call.project), check)
            return await operation.events(self._service, call, lasting)
        if call.method in _READING:
            return await self._in_turn(self._turns.of(call.project), operation.handler, call)
        if operation.takes_messages:
            return await self._in_turn(self._turns.taking(call.project), operation.handler, call)
        return await operation.handler(self._service, call)

    async def turn_of_large(self, project: str | None) -> None:
        """Wait until a large frame may be read, whose project may not be known yet."""
        await self._in_flight.large_bodies.turn(project or "")

    async def _check_caller(self, surface: Surface, operation: Operation, call: Call) -> None:
        """Raise an error if the request would now be refused for its caller."""
        call.caller = await self.caller(surface, call)
        if operation.rule is not None:
            self._check_rule(operation.rule, call)

    async def caller(self, surface: Surface, call: Call) -> Caller:
        """The caller, if the request may be answered at all.

        Raises:
            NotifyError: The request's token or signature does not verify, or it is a delivery of ours.
            Overloaded: Too many requests wait until their callers are known.
        """
        try:
            caller = await surface.authenticator.authenticate(call)
        except Overloaded:
            self._in_flight.refuse("callers", self._service.settings.most_waiting_for_callers)
        if caller.how in _UNPROVEN and is_own_delivery(call.headers, self._mark):
            raise OwnDelivery
        return caller

    async def _in_turn(self, line: Line, handler: Handler, call: Call) -> Answer:
        """The answer to a request that reads messages, made in a turn of its project."""
        call.turn = await line.begin()
        size = 0
        making = Metered(handler(self._service, call))
        try:
            answer = await making
            size = len(answer.whole)
            return answer
        finally:
            call.turn.end(size, making.seconds)

    def _check_rule(self, rule: str, call: Call) -> None:
        project = call.names.get("project_id", call.project)
        check_right(self._policy, call.caller, rule, Target(project, call.queue_name))
