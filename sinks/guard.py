"""The address guard: which addresses a delivery may reach. Every outgoing connection passes it.

Subscribers name any host they like, so without it a tenant could make us talk to loopback, to
metadata services and to the operator's own network. It judges addresses, never names, and judges
them twice:

- `GuardedResolver` looks at all of a name's addresses, and refuses the name for a single forbidden
  one: a mix of public and private answers is an attack or a mistake.
- `AddressGuard.socket` makes the socket of each connect, for the very address that is connected to
  next, literal addresses included. Nothing can change between this check and the connect.

The ports of this host that the service itself listens on are refused with every address that leads
to them. The mail relay and the sendmail command are exempt: the operator names them, in the settings.

Source: IANA special-purpose address registries; OWASP, "Server-Side Request Forgery Prevention".
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from aiohappyeyeballs import AddrInfoType

from zaqar_notify.installation import is_own_listener

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Addresses: TypeAlias = Sequence[AddrInfoType]
"""As the system's resolver gives them: where one can connect to."""

# Lists of our own: what the standard library calls global differs between its versions, and takes
# in multicast and several tunnels.
_NOT_PUBLIC_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local, metadata services
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_IPV6_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "3ffe::/16",  # the former 6bone
            "3fff::/20",  # documentation
        ),
    )
)
# These prefixes only carry an IPv4 address, which decides. Teredo, local NAT64 and IPv4-compatible
# addresses carry one as well, but are themselves not public.
_CARRIERS = tuple(
    map(
        IPv6Network,
        (
            "::ffff:0:0/96",  # IPv4-mapped
            "64:ff9b::/96",  # NAT64
            "2002::/16",  # 6to4
        ),
    )
)
# Their IPv4 address is in the last 32 bits.
_IPV4_AT_THE_END = tuple(
    map(
        IPv6Network,
        (
            "::/96",  # IPv4-compatible
            "64:ff9b::/96",  # NAT64
            "64:ff9b:1::/48",  # local NAT64, in its usual layout
        ),
    )
)

_NAME_SECONDS = 10.0
_NAMES_KEPT = 1000
"""How long an answer about a name is used, and about how many names."""


def is_address(host: str) -> bool:
    """Whether `host` is an address in its usual form, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class AddressForbidden(OSError):
    """The address guard refuses a connection. An OSError, because what connects takes those for
    an address that can't be had, and goes on to the next."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"deliveries may not reach {address}: it is not public, or is denied; "
            "see ZAQAR_DELIVERY_ALLOW and ZAQAR_DELIVERY_DENY"
        )


class OwnListener(AddressForbidden):
    """A connection would lead back to this service."""

    def __init__(self) -> None:
        OSError.__init__(
            self, "deliveries may not reach this service itself; a queue: subscriber can"
        )


class AddressGuard:
    """Judges addresses.

    Args:
        allow: Networks that may be reached although they are not public.
        deny: Networks that may never be reached; wins over `allow`.
        mark: The installation's, whose own listeners may never be reached either.
    """

    def __init__(
        self, *, allow: Sequence[Network] = (), deny: Sequence[Network] = (), mark: str = ""
    ) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._mark = mark

    def permits(self, address: Address) -> bool:
        """Whether a connection to `address` is permitted.

        An IPv6 address that carries IPv4 addresses is judged together with each of them: it is
        denied when one of them is, and permitted when all of them are.
        """
        faces = (address, *_carried(address))
        if any(_is_in(face, self._deny) for face in faces):
            return False
        return all(_is_public(face) or _is_in(face, self._allow) for face in faces)

    def check(self, host: str) -> None:
        """Raise AddressForbidden unless the address in `host` (text, no name) is permitted."""
        try:
            permitted = self.permits(ip_address(host))
        except ValueError:
            permitted = False
        if not permitted:
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


def _carried(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for, or is reached through."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if _is_in(address, _IPV4_AT_THE_END) and not address.is_loopback:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not _is_in(address, _NOT_PUBLIC_IPV4)
    if _is_in(address, _CARRIERS):
        return True
    return address in _IPV6_UNICAST and not _is_in(address, _NOT_PUBLIC_IPV6)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
