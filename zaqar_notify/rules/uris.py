"""URIs without their secrets."""

from __future__ import annotations

import re

MASK = "********"

_PASSWORD = re.compile(r"(://[^/:@]*:).*@", re.DOTALL)
_PARAMETER = re.compile(
    r"([?&][^=&#]*(?:password|secret|token|properties)[^=&#]*=)[^&#]*", re.IGNORECASE
)


def masked(uri: str) -> str:
    """The URI with a mask in the place of its password, and of parameters whose name says that they are secret."""
    return _PARAMETER.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1{MASK}@", uri))
