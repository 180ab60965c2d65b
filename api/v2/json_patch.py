"""JSON patches of a queue's metadata."""

from __future__ import annotations

import re

from api.refusals import UnsupportedPatchType
from zaqar_notify.errors import BodyInvalid
from zaqar_notify.metadata import PatchStep
from zaqar_notify.rules.jsontext import read_json

PATCH_TYPE = "application/openstack-messaging-v2.0-json-patch"

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])+){2}")


def read_patch(body: bytes, content_type: str | None) -> list[PatchStep]:
    """The operations in a request's body.

    Raises:
        UnsupportedPatchType: The content type is not one of a JSON patch.
        BodyInvalid: The body is malformed.
    """
    if content_type is None or content_type.lower() != PATCH_TYPE:
        raise UnsupportedPatchType(PATCH_TYPE)
    if not body:
        raise BodyInvalid("A JSON body is required")
    return parse_patch(read_json(body))


def parse_patch(document: object) -> list[PatchStep]:
    """Read a JSON patch of a queue. Its form is checked before the queue is looked up.

    Args:
        document: `[{"op": "add" | "replace" | "remove", "path": "/metadata/<key>", "value"?}]`.

    Raises:
        BodyInvalid: An operation is malformed; the sentence gives its number, from 1.

    Source: Zaqar API v2, "Update Queue"; RFC 6901 for the pointer.
    """
    if not isinstance(document, list):
        raise BodyInvalid("The body must be a JSON array of patch operations")
    return [_operation(step, item) for step, item in enumerate(document, start=1)]


def _operation(step: int, item: object) -> PatchStep:
    if not isinstance(item, dict):
        raise BodyInvalid(f"Operation {step} must be an object with op, path and value")
    for field in ("op", "path"):
        if field not in item:
            raise BodyInvalid(f"Operation {step} lacks {field}")
    op = item["op"]
    if op not in ("add", "replace", "remove"):
        raise BodyInvalid(
            f"Operation {step}: op {str(op)[:80]!r} is unknown; it takes add, replace and remove"
        )
    if op != "remove" and "value" not in item:
        raise BodyInvalid(f"Operation {step}: {op} needs a value")
    root, key = _tokens(step, item["path"])
    if op != "remove" and root.lower() != "metadata":
        raise BodyInvalid(f"Operation {step}: path must begin with /metadata/")
    return PatchStep(op=op, key=key, value=item.get("value"))


def _tokens(step: int, path: object) -> tuple[str, str]:
    if not isinstance(path, str):
        raise BodyInvalid(f"Operation {step}: path must be a string")
    tokens = [token.strip() for token in path.split("/")[1:]]
    if not _POINTER.fullmatch(path) or not all(tokens):
        raise BodyInvalid(
            f"Operation {step}: path {path[:80]!r} must be /metadata/<key>, "
            "with ~1 for / and ~0 for ~ in the key"
        )
    root, key = (token.replace("~1", "/").replace("~0", "~") for token in tokens)
    return root, key
