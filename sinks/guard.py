"""The address guard: every outgoing connection passes it, and it permits the address or not.

The rule is in `sinks.addresses`. The guard judges addresses, never names, and judges each address twice:

- `names.GuardedResolver` looks at all of a name's addresses, and refuses the name for a single forbidden
  one: a mix of public and private answers is an attack or a mistake.
- `AddressGuard.socket` makes the socket of each connect, for the very address that is connected to
  next, literal addresses included. Nothing can change between this check and the connect.

The ports of this host that the service itself listens on are refused with every address that leads
to them. The mail relay and the sendmail command are exempt: the operator names them, in the settings.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from aiohappyeyeballs import AddrInfoType

from sinks.addresses import AddressRule, Network, forbidden, is_address
from zaqar_notify.delivery.installation import installation_mark, is_own_listener
from zaqar_notify.findings import Finding, ok, warning
from zaqar_notify.rules.ports import shown_ports
from zaqar_notify.settings import Settings, shown

_LOOPBACK = ("127.0.0.1", "::1")
_LOOPBACK_NAME = re.compile(r"(?:.+\.)?localhost\.?", re.IGNORECASE)
"""RFC 6761, 6.3: always this host."""


METADATA_SERVICES = (ip_address("169.254.169.254"), ip_address("fd00:ec2::254"))
"""The addresses where clouds tell a machine its own secrets."""


class AddressForbidden(OSError):
    """The address guard refuses a connection. It is an OSError, so a connect by name goes on to the next
    address."""

    def __init__(self, address: str) -> None:
        super().__init__(forbidden(address))


class OwnListener(AddressForbidden):
    """A connection would lead back to this service."""

    def __init__(self) -> None:
        OSError.__init__(
            self, "deliveries may not reach this service itself; a queue: subscriber can"
        )


class PortForbidden(AddressForbidden):
    """The operator permits deliveries to other ports only."""

    def __init__(self, port: int, permitted: Sequence[range]) -> None:
        OSError.__init__(
            self,
            f"deliveries may not use port {port}; permitted are {shown_ports(permitted)} (ZAQAR_DELIVERY_PORTS)",
        )


class AddressGuard:
    """Judges the address of each connection.

    Args:
        allow: Networks that may be reached although they are not public.
        deny: Networks that may never be reached; wins over `allow`.
        mark: The installation's, whose own listeners may never be reached either.
        ports: The only ports that may be reached; none: all of them.
    """

    def __init__(
        self,
        *,
        allow: Sequence[Network] = (),
        deny: Sequence[Network] = (),
        mark: str = "",
        ports: Sequence[range] = (),
    ) -> None:
        self._rule = AddressRule(allow=allow, deny=deny)
        self._mark = mark
        self._ports = ports

    @classmethod
    def of(cls, settings: Settings) -> AddressGuard:
        """The guard that the settings describe."""
        return cls(
            allow=settings.delivery_allow,
            deny=settings.delivery_deny,
            mark=installation_mark(settings),
            ports=settings.delivery_ports,
        )

    def check_port(self, port: int) -> None:
        """Raise PortForbidden unless the port is permitted."""
        if self._ports and not any(port in ports for ports in self._ports):
            raise PortForbidden(port, self._ports)

    def check(self, host: str) -> None:
        """Raise AddressForbidden unless the address in `host` (text, no name) is permitted."""
        if not self._rule.permits_text(host):
            raise AddressForbidden(host)

    def check_host(self, host: str, port: int) -> None:
        """Judge the host of a URL without a look-up: an address, or a name of this host's loopback.

        A refusal tells of ports only where deliveries may go: otherwise it would show which ports are in use here.

        Raises:
            AddressForbidden: It can't be delivered to.
        """
        self.check_port(port)
        if is_address(host):
            self.check(host)
            addresses: Sequence[str] = (host,)
        elif _LOOPBACK_NAME.fullmatch(host):
            addresses = [each for each in _LOOPBACK if self._rule.permits_text(each)]
        else:
            return
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self.check_listener((family, socket.SOCK_STREAM, 0, "", (address, port)))

    def check_listener(self, info: AddrInfoType) -> None:
        """Raise OwnListener if the address and port in `info` lead back to us, PortForbidden if the port is not permitted."""
        family, _, _, _, destination = info
        self.check_port(destination[1])
        if is_own_listener(destination, family, self._mark):
            raise OwnListener

    def socket(self, info: AddrInfoType) -> socket.socket:
        """A socket to connect to the address in `info`. Raises AddressForbidden."""
        family, kind, protocol, _, destination = info
        self.check(str(destination[0]))
        self.check_listener(info)
        return socket.socket(family, kind, protocol)


def diagnose_reach(settings: Settings) -> list[Finding]:
    """The networks that deliveries may reach, for `zaqar-notify doctor`."""
    allowed, denied = settings.delivery_allow, settings.delivery_deny
    everything = [network for network in allowed if network.prefixlen == 0]
    if everything:
        return [
            warning(
                "guard",
                f"Deliveries may go anywhere ({shown(tuple(everything))}), this host and network too",
                "Name in ZAQAR_DELIVERY_ALLOW only the networks that deliveries need",
            )
        ]
    exposed = [each for each in METADATA_SERVICES if _is_in(each, allowed, denied)]
    if exposed:
        return [
            warning(
                "guard",
                f"Deliveries may reach the cloud's metadata service at {exposed[0]}",
                f"Set ZAQAR_DELIVERY_DENY={exposed[0]}",
            )
        ]
    beside = f", and {shown(allowed)}" if allowed else " only"
    return [ok("guard", f"Deliveries may reach public addresses{beside}")]


def _is_in(address: object, allowed: tuple[Network, ...], denied: tuple[Network, ...]) -> bool:
    return any(address in network for network in allowed) and not any(
        address in network for network in denied
    )
