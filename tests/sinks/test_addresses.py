"""The rule of the addresses that deliveries may reach."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis.strategies import ip_addresses, sampled_from

from sinks.addresses import AddressRule

PUBLIC = AddressRule()
PRIVATE_IPV4 = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]
WRAPPERS: dict[str, Callable[[IPv4Address], IPv6Address]] = {
    "mapped": lambda inner: IPv6Address(0xFFFF << 32 | int(inner)),
    "compatible": lambda inner: IPv6Address(int(inner)),
    "6to4": lambda inner: IPv6Address(0x2002 << 112 | int(inner) << 80 | 1),
    "nat64": lambda inner: IPv6Address(0x64FF9B << 96 | int(inner)),
    "local nat64": lambda inner: IPv6Address(0x64FF9B0001 << 80 | int(inner)),
    "teredo server": lambda inner: IPv6Address(0x20010000 << 96 | int(inner) << 64),
    "teredo client": lambda inner: IPv6Address(
        0x20010000 << 96 | 0x08080808 << 64 | (int(inner) ^ 0xFFFFFFFF)
    ),
}
TRANSPARENT = ("mapped", "6to4", "nat64")
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.mark.parametrize("address", PRIVATE_IPV4)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not PUBLIC.permits(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:10::1",
        "2001:db8::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "::ffff:0:127.0.0.1",
    ],
)
def test_ipv6_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not PUBLIC.permits(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "223.255.255.255",
        "2600::1",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_public_addresses_are_permitted(address: str) -> None:
    assert PUBLIC.permits(ip_address(address))


@given(ip_addresses())
def test_what_is_permitted_is_global_for_the_standard_library_too(
    address: IPv4Address | IPv6Address,
) -> None:
    if PUBLIC.permits(address):
        judged = address.ipv4_mapped or address if address.version == 6 else address
        assert judged.is_global
        assert not judged.is_multicast


@given(ip_addresses(v=4), sampled_from(sorted(WRAPPERS)))
def test_an_address_in_disguise_is_judged_by_what_it_carries(
    inner: IPv4Address, wrapper: str
) -> None:
    outer = WRAPPERS[wrapper](inner)

    assert PUBLIC.permits(outer) == (wrapper in TRANSPARENT and PUBLIC.permits(inner))


@given(sampled_from(PRIVATE_IPV4), sampled_from(sorted(WRAPPERS)))
def test_allowing_ipv6_does_not_allow_what_an_address_carries(inner: str, wrapper: str) -> None:
    rule = AddressRule(allow=[ip_network("::/0")])

    assert not rule.permits(WRAPPERS[wrapper](IPv4Address(inner)))


@given(ip_addresses(v=4), sampled_from(sorted(WRAPPERS)))
def test_deny_wins_over_allow_through_every_disguise(inner: IPv4Address, wrapper: str) -> None:
    rule = AddressRule(allow=EVERYTHING, deny=[ip_network(f"{inner}/32")])

    assert not rule.permits(inner)
    assert not rule.permits(WRAPPERS[wrapper](inner))


@given(ip_addresses())
@example(IPv6Address("::ffff:10.0.0.0"))
@example(IPv6Address("64:ff9b::10.0.0.0"))
@example(IPv6Address("2002:a00::"))
@example(IPv6Address("64:ff9b:1::10.0.0.0"))
def test_allow_opens_what_it_names_and_nothing_else(address: IPv4Address | IPv6Address) -> None:
    allowed = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
    rule = AddressRule(allow=allowed)
    is_named = any(address in network for network in allowed)

    assert rule.permits(address) == (
        is_named or PUBLIC.permits(address) or _is_transparent_for_ten(address)
    )


def _is_transparent_for_ten(address: IPv4Address | IPv6Address) -> bool:
    """Whether it only carries an address of 10.0.0.0/8, which decides."""
    if isinstance(address, IPv4Address):
        return False
    in_nat64 = address in ip_network("64:ff9b::/96")
    nat64 = IPv4Address(int(address) & 0xFFFFFFFF) if in_nat64 else None
    carried = (address.ipv4_mapped, address.sixtofour, nat64)
    return any(inner is not None and inner in ip_network("10.0.0.0/8") for inner in carried)


@pytest.mark.parametrize("text", ["localhost", "", "127.1", "8.8.8.8.", "[::1]", "8.8.8.8:80"])
def test_text_that_is_no_address_is_not_permitted(text: str) -> None:
    assert not AddressRule(allow=EVERYTHING).permits_text(text)
