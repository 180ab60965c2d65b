"""The address guard: which addresses a delivery may reach. Every outgoing connection passes it.

Which those are is the rule in `zaqar_notify.addresses`. It judges addresses, never names, and judges
them twice:

- `GuardedResolver` looks at all of a name's addresses, and refuses the name for a single forbidden
  one: a mix of public and private answers is an attack or a mistake.
- `AddressGuard.socket` makes the socket of each connect, for the very address that is connected to
  next, literal addresses included. Nothing can change between this check and the connect.

The ports of this host that the service itself listens on are refused with every address that leads
to them. The mail relay and the sendmail command are exempt: the operator names them, in the settings.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from aiohappyeyeballs import AddrInfoType

from zaqar_notify.addresses import AddressRule, Network, forbidden, is_address
from zaqar_notify.installation import is_own_listener

Addresses: TypeAlias = Sequence[AddrInfoType]
"""As the system's resolver gives them: where one can connect to."""

_NAME_SECONDS = 10.0
_NAMES_KEPT = 1000
"""How long an answer about a name is used, and about how many names."""


class AddressForbidden(OSError):
    """The address guard refuses a connection. An OSError, because what connects takes those for
    an address that can't be had, and goes on to the next."""

    def __init__(self, address: str) -> None:
        super().__init__(forbidden(address))


class OwnListener(AddressForbidden):
    """A connection would lead back to this service."""

    def __init__(self) -> None:
        OSError.__init__(
            self, "deliveries may not reach this service itself; a queue: subscriber can"
        )


class AddressGuard:
    """Judges the address of each connection.

    Args:
        allow: Networks that may be reached although they are not public.
        deny: Networks that may never be reached; wins over `allow`.
        mark: The installation's, whose own listeners may never be reached either.
    """

    def __init__(
        self, *, allow: Sequence[Network] = (), deny: Sequence[Network] = (), mark: str = ""
    ) -> None:
        self._rule = AddressRule(allow=allow, deny=deny)
        self._mark = mark

    def check(self, host: str) -> None:
        """Raise AddressForbidden unless the address in `host` (text, no name) is permitted."""
        if not self._rule.permits_text(host):
            raise AddressForbidden(host)

    def check_listener(self, info: AddrInfoType) -> None:
        """Raise OwnListener if the address and port in `info` lead back to us."""
        family, _, _, _, destination = info
        if is_own_listener(destination, family, self._mark):
            raise OwnListener

    def socket(self, info: AddrInfoType) -> socket.socket:
        """A socket to connect to the address in `info`. Raises AddressForbidden."""
        family, kind, protocol, _, destination = info
        self.check(str(destination[0]))
        self.check_listener(info)
        return socket.socket(family, kind, protocol)


class GuardedResolver:
    """Resolves names of which every address is permitted. Belongs to one event loop.

    An answer is used for a while, and who asks for a name that is being looked up waits for that.

    Args:
        lookups: How many are under way at once. One can't be interrupted, and keeps its thread when
            its try has been given up; so there are as many as tries: with fewer, the slow name
            servers of one tenant would hold up everybody's names.
    """

    def __init__(self, guard: AddressGuard, *, lookups: int) -> None:
        self._guard = guard
        self._threads = ThreadPoolExecutor(lookups, thread_name_prefix="name-lookup")
        self._lookups: dict[tuple[str, int], _LookUp] = {}
        """Under way, or done a moment ago."""

    async def resolve(self, host: str, port: int) -> Addresses:
        """All addresses of `host`, a name or an address.

        Raises:
            AddressForbidden: One of them is forbidden.
            OSError: There is no such name, or no answer.
        """
        if is_address(host):
            self._guard.check(host)
            return _look_up(host, port)  # This asks nobody.
        lookup = self._lookups.get((host, port)) or self._begin(host, port)
        lookup.waiting += 1
        try:
            return await asyncio.shield(lookup.answer)
        finally:
            lookup.waiting -= 1
            if not lookup.waiting and lookup.question.cancel():
                self._forget(host, port, lookup)  # It had no thread yet, and nobody waits any more.

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, host: str, port: int) -> _LookUp:
        lookup = _LookUp(self._threads.submit(self._look_up_permitted, host, port))
        if len(self._lookups) < _NAMES_KEPT:
            self._lookups[host, port] = lookup
        lookup.answer.add_done_callback(lambda _: self._ended(host, port, lookup))
        return lookup

    def _look_up_permitted(self, host: str, port: int) -> Addresses:
        found = _look_up(host, port)
        for _, _, _, _, destination in found:
            self._guard.check(str(destination[0]))
        return found

    def _ended(self, host: str, port: int, lookup: _LookUp) -> None:
        if lookup.answer.cancelled() or lookup.answer.exception():
            self._forget(host, port, lookup)
        else:
            loop = lookup.answer.get_loop()
            loop.call_later(_NAME_SECONDS, self._forget, host, port, lookup)

    def _forget(self, host: str, port: int, lookup: _LookUp) -> None:
        if self._lookups.get((host, port)) is lookup:
            del self._lookups[host, port]


class _LookUp:
    """A question to the name servers, and how many wait for its answer."""

    def __init__(self, question: Future[Addresses]) -> None:
        self.question = question
        self.answer = asyncio.wrap_future(question)
        self.waiting = 0


def _look_up(host: str, port: int) -> Addresses:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        # A label is empty or longer than 63 characters.
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
