"""The rule for addresses that deliveries may reach.

Subscribers name any host they like, so without it a tenant could make us talk to loopback, to
metadata services and to the operator's own network.

Source: IANA special-purpose address registries; OWASP, "Server-Side Request Forgery Prevention".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# Lists of our own: "global" in the standard library differs between its versions, and includes
# multicast and several tunnels.
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


class AddressRule:
    """Judges addresses.

    Args:
        allow: Networks that may be reached although they are not public.
        deny: Networks that may never be reached; wins over `allow`.
    """

    def __init__(self, *, allow: Sequence[Network] = (), deny: Sequence[Network] = ()) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)

    def permits(self, address: Address) -> bool:
        """Whether a connection to `address` is permitted.

        An IPv6 address that carries IPv4 addresses is judged together with each of them: it is
        denied when one of them is, and permitted when all of them are.
        """
        faces = (address, *_carried(address))
        if any(_is_in(face, self._deny) for face in faces):
            return False
        return all(_is_public(face) or _is_in(face, self._allow) for face in faces)

    def permits_text(self, host: str) -> bool:
        """Whether the address in `host` is permitted; no name is."""
        try:
            return self.permits(ip_address(host))
        except ValueError:
            return False


def is_address(host: str) -> bool:
    """Whether `host` is an address in its usual form, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def forbidden(host: str) -> str:
    """The sentence about an address that may not be reached."""
    return (
        f"deliveries may not reach {host}: it is not public, or is denied; "
        "see ZAQAR_DELIVERY_ALLOW and ZAQAR_DELIVERY_DENY"
    )


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
