"""Finding the addresses of names. The guard permits each address.

c-ares asks the name servers. It obeys the hosts file and the resolver configuration of the host (search list,
ndots), and needs no thread for each question. A project whose name servers hang fills its own turns, and
delays only its own names.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeAlias
from weakref import WeakSet, WeakValueDictionary

import aiodns
from aiohappyeyeballs import AddrInfoType

from sinks.addresses import is_address
from sinks.guard import AddressGuard

Addresses: TypeAlias = Sequence[AddrInfoType]
"""Addresses to connect to, in the order to try."""

Question: TypeAlias = asyncio.Future[Any]
"""Its result is c-ares' `AddrInfoResult`."""

KEPT_SECONDS = 10.0
MOST_KEPT = 1000
"""The time for which an answer about a name is used, and the number of names."""

ANSWER_SECONDS = 5.0
"""The wait for an answer. A question ends by itself a little later: c-ares asks each server twice, and waits
1 second and then 2."""
_FIRST_TRY_SECONDS = 1.0
_TRIES = 2

MOST_QUESTIONS = 10_000
"""The number of questions until c-ares begins anew. It keeps each answer (some hundred bytes) for up to an
hour, as its server says, and has no bound of its own."""

_FILES = 8
"""The files that c-ares opens at its beginning: the configuration, and a watch on it."""

MOST_OF_A_PROJECT = 32
"""Questions under way at once for one project."""

_NO_SUCH_NAME = frozenset(
    {
        aiodns.error.ARES_ENOTFOUND,
        aiodns.error.ARES_ENODATA,
        aiodns.error.ARES_EBADNAME,
        aiodns.error.ARES_ENONAME,
    }
)


class GuardedResolver:
    """Resolves names whose addresses are all permitted. Belongs to one event loop.

    All projects use an answer for a while. Requests of one project for the same name share one question.

    Args:
        name_servers: Ask these, as ADDRESS:PORT; none: those of the host.
    """

    def __init__(self, guard: AddressGuard, *, name_servers: Sequence[str] = ()) -> None:
        self._guard = guard
        self._name_servers = name_servers
        self._channel: aiodns.DNSResolver | None = None
        self._asked = 0
        # A former channel lives on until its last question has ended.
        self._channels: WeakSet[aiodns.DNSResolver] = WeakSet()
        self._known: dict[str, list[str]] = {}
        self._under_way: dict[tuple[str, str], _LookUp] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def resolve(self, host: str, port: int, *, project: str) -> Addresses:
        """All addresses of `host`, a name or an address.

        Raises:
            AddressForbidden: One of them is forbidden.
            OSError: There is no such name, or no answer in time.
        """
        if is_address(host):
            self._guard.check(host)
            found = [host]
        else:
            found = self._known.get(host) or await self._look_up(host, project)
        return [_info(address, port) for address in found]

    def close(self) -> None:
        for lookup in self._under_way.values():
            lookup.answer.cancel()
        for channel in self._channels:
            channel.cancel()
        self._channel = None

    async def _look_up(self, host: str, project: str) -> list[str]:
        lookup = self._under_way.get((project, host)) or self._begin(host, project)
        lookup.waiting += 1
        try:
            return await asyncio.shield(lookup.answer)
        finally:
            lookup.waiting -= 1
            if not lookup.waiting:
                # No request waits any more. The question ends by itself.
                self._forget(project, host, lookup)
                lookup.answer.cancel()

    def _begin(self, host: str, project: str) -> _LookUp:
        turns = self._turns.setdefault(project, asyncio.Semaphore(MOST_OF_A_PROJECT))
        lookup = _LookUp(asyncio.ensure_future(self._find(host, turns)))
        self._under_way[project, host] = lookup
        lookup.answer.add_done_callback(lambda _: self._forget(project, host, lookup))
        return lookup

    def _forget(self, project: str, host: str, lookup: _LookUp) -> None:
        if self._under_way.get((project, host)) is lookup:
            del self._under_way[project, host]

    async def _find(self, host: str, turns: asyncio.Semaphore) -> list[str]:
        await turns.acquire()
        question = self._ask(host)
        question.add_done_callback(partial(_end_of_turn, turns))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await asyncio.shield(question)
        except (aiodns.error.DNSError, TimeoutError) as error:
            raise _failure(error) from error
        found = list(dict.fromkeys(node.addr[0].decode() for node in answer.nodes))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "it has no address")
        for address in found:
            self._guard.check(address)
        if len(self._known) < MOST_KEPT:
            self._known[host] = found
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._known.pop, host, None)
        return found

    def _ask(self, host: str) -> Question:
        if self._channel is None or self._asked == MOST_QUESTIONS:
            _require_files()
            self._channel = aiodns.DNSResolver(
                self._name_servers or None, timeout=_FIRST_TRY_SECONDS, tries=_TRIES
            )
            self._channels.add(self._channel)
            self._asked = 0
        self._asked += 1
        return self._channel.getaddrinfo(host, type=socket.SOCK_STREAM)


def _require_files() -> None:
    """Raise OSError unless c-ares can open its files: without them it would never learn the host's name
    servers."""
    with ExitStack() as opened:
        for _ in range(_FILES):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


class _LookUp:
    """A question of a project, and the number of requests that wait for its answer."""

    def __init__(self, answer: asyncio.Future[list[str]]) -> None:
        self.answer = answer
        self.waiting = 0


def _end_of_turn(turns: asyncio.Semaphore, question: Question) -> None:
    turns.release()
    if not question.cancelled():
        question.exception()  # Perhaps no request is left to see it.


def _failure(error: Exception) -> socket.gaierror:
    code = error.args[0] if error.args else None
    if code in _NO_SUCH_NAME:
        return socket.gaierror(socket.EAI_NONAME, "there is no such name")
    return socket.gaierror(socket.EAI_AGAIN, "the name servers gave no answer")


def _info(address: str, port: int) -> AddrInfoType:
    if ip_address(address).version == 4:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
