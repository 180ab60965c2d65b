"""The Lua scripts beside this module, as one: Redis 6.2 has no libraries of scripts."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

from zaqar_notify.storage.redis import lua

PARTS = (
    "common",
    "parcel",
    "post",
    "claim",
    "delete",
    "head",
    "read",
    "sweep",
    "transfer",
    "commit",
)
"""In the order in which they use each other; the last one runs the operations."""


@functools.cache
def script() -> bytes:
    """The text that a server is given once."""
    files = resources.files(lua)
    return b"\n".join(files.joinpath(f"{part}.lua").read_bytes() for part in PARTS)


@functools.cache
def digest() -> str:
    """The name by which a server knows the text."""
    return hashlib.sha1(script(), usedforsecurity=False).hexdigest()
