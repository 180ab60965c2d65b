"""Lists of TCP ports, as `443,8000-8999`."""

from __future__ import annotations

from collections.abc import Sequence

LAST_PORT = 65535


def read_ports(word: str) -> range:
    """Read a port, or a range of ports that includes its ends.

    Raises:
        ValueError: It is neither.
    """
    first, dash, last = word.partition("-")
    ends = (first, last if dash else first)
    if not all(end.isascii() and end.isdigit() for end in ends):
        raise ValueError(f"{word!r} is neither a port nor a range such as 8000-8999")
    ports = range(int(ends[0]), int(ends[1]) + 1)
    if not ports or ports[0] < 1 or ports[-1] > LAST_PORT:
        raise ValueError(f"{word!r} is not within 1 to {LAST_PORT}, or its end is before its start")
    return ports


def shown_ports(ports: Sequence[range]) -> str:
    return ", ".join(str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in ports)
