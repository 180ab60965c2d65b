"""A shortage of files or memory on our own host. It is never the receiver's fault."""

from __future__ import annotations

import errno
import os
import socket

_LACKS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, socket.EAI_MEMORY})


class Shortage(Exception):
    """A try could not be made because files or memory are missing; the text says which."""


def is_shortage(error: BaseException) -> bool:
    """Whether this process or its host lacked files or memory for the attempt."""
    if isinstance(error, Shortage | MemoryError):
        return True
    if not isinstance(error, OSError):
        return False
    if error.errno in _LACKS:
        return True
    # A look-up that can't open a file says that there is no such name. The error about several
    # connections that failed in different ways has no number.
    is_vague = isinstance(error, socket.gaierror) or error.errno is None
    return is_vague and _no_file_is_left()


def _no_file_is_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in _LACKS
    return False
