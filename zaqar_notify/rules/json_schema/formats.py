"""The formats of strings that are checked; each check is linear in the text. Other formats are notes of the schema's."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime

_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d(?:\.\d{1,20})?(?:[Zz]|[+-]\d\d:\d\d))"
)
_TIME = re.compile(r"(\d\d:\d\d):(\d\d)(?:\.\d{1,20})?(?:[Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_LOCAL_PART = re.compile(r"[!#-'*+\-/-9=?A-Z^-~]+(?:\.[!#-'*+\-/-9=?A-Z^-~]+)*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:%[0-9A-Fa-f]{2}|[!#$&-;=?-Z\[\]_a-z~])*")

_LONGEST_ADDRESS = 45
_LONGEST_NAME = 253
_LONGEST_LOCAL_PART = 64


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    if found is None or found[2] > "60":
        return False
    try:
        datetime.strptime(found[1], "%H:%M")
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    found = _DATE_TIME.fullmatch(text)
    return found is not None and _is_date(found[1]) and _is_time(found[2])


def _is_address(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        if len(text) > _LONGEST_ADDRESS or "%" in text:
            return False
        try:
            kind(text)
        except ValueError:
            return False
        return True

    return test


def _is_hostname(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and all(map(_LABEL.fullmatch, text.split(".")))


def _is_email(text: str) -> bool:
    local_part, at, host = text.rpartition("@")
    if not at or len(local_part) > _LONGEST_LOCAL_PART:
        return False
    return _LOCAL_PART.fullmatch(local_part) is not None and _is_hostname(host)


FORMATS: Mapping[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "date": _is_date,
    "time": _is_time,
    "email": _is_email,
    "hostname": _is_hostname,
    "ipv4": _is_address(ipaddress.IPv4Address),
    "ipv6": _is_address(ipaddress.IPv6Address),
    "uri": lambda text: _URI.fullmatch(text) is not None,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
}
