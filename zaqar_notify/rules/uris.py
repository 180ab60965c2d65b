"""URIs without their secrets."""

from __future__ import annotations

import re

from zaqar_notify.models import JsonObject

MASK = "********"
SHORTEST_HIDDEN = 4
"""A shorter password would be found in words of any sentence."""

_SECRET = re.compile("password|secret|token", re.IGNORECASE)
_PASSWORD = re.compile(r"(://[^/:@]*:).*@", re.DOTALL)
_PARAMETER = re.compile(
    r"([?&][^=&#]*(?:password|secret|token|properties)[^=&#]*=)[^&#]*", re.IGNORECASE
)


def masked(uri: str) -> str:
    """The URI with a mask in the place of its password, and of parameters whose name says that they are secret."""
    return _PARAMETER.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1{MASK}@", uri))


def hidden(text: str, uri: str) -> str:
    """The text, which may quote the URI or its password, with masks."""
    text = text.replace(uri, masked(uri))
    found = _PASSWORD.search(uri)
    password = found[0].removeprefix(found[1]).removesuffix("@") if found else ""
    return text.replace(password, MASK) if len(password) >= SHORTEST_HIDDEN else text


def masked_document(document: JsonObject) -> JsonObject:
    """A JSON object with masks in the places of its secrets, by their keys, and of passwords in URIs."""
    return {
        key: MASK if _SECRET.search(key) else _masked_value(each) for key, each in document.items()
    }


def _masked_value(value: object) -> object:
    if isinstance(value, dict):
        return masked_document(value)
    if isinstance(value, list):
        return [_masked_value(each) for each in value]
    return masked(value) if isinstance(value, str) else value
