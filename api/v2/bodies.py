"""Bodies of requests that only version 2 has, read straight into values."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from api.documents import read_document
from zaqar_notify.errors import ValidationFailed

RESOURCE_TYPES = ("messages", "subscriptions")
"""The kinds of resources that a purge can remove."""


class PurgeBody(msgspec.Struct):
    resource_types: object = msgspec.UNSET


_purge_body = msgspec.json.Decoder(PurgeBody)


def read_resource_types(body: bytes) -> Sequence[str]:
    """The types in `{"resource_types": [...]}`; an empty body names all types."""
    if not body:
        return RESOURCE_TYPES
    kinds = read_document(body, _purge_body).resource_types
    if not isinstance(kinds, list):
        raise ValidationFailed("resource_types must be an array")
    for kind in kinds:
        if kind not in RESOURCE_TYPES:
            raise ValidationFailed(
                f"resource_types has {str(kind)[:80]!r}; it takes {' and '.join(RESOURCE_TYPES)}"
            )
    return kinds
