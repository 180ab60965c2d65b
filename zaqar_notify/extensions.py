"""Classes that other packages name in their entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TypeVar

from zaqar_notify.errors import StartRefused

T = TypeVar("T")


def load(entry_point: EntryPoint, base: type[T]) -> T:
    """An object of the subclass of `base` that an entry point names.

    Raises:
        StartRefused: It can't be loaded, or is something else.
    """
    what = f"{entry_point.value} (entry point {entry_point.name} of {entry_point.group})"
    try:
        found = entry_point.load()
    except Exception as error:
        raise StartRefused(
            f"{what} can't be loaded: {type(error).__name__}: {error}; install its package together "
            "with its requirements"
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise StartRefused(f"{what} is no subclass of {base.__module__}.{base.__qualname__}")
    made: T = found()
    return made
