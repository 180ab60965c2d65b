"""A program on a host whose clock is off: `python skewed.py SECONDS MODULE ARGUMENTS…`.

All that Python reads the wall clock with is put ahead by so many seconds, or behind by a negative
number, before anything of the program is imported. Clocks that only run on are left alone.
"""

from __future__ import annotations

import ctypes
import gc
import runpy
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any

_NS = 1_000_000_000


def skewed(command: Sequence[str], *, ahead_seconds: float) -> list[str]:
    """The same `python -m …` on a host whose clock is so far ahead, which may be not at all."""
    if not ahead_seconds:
        return list(command)
    python, _, *module_and_arguments = command
    return [python, __file__, str(ahead_seconds), *module_and_arguments]


def put_ahead(seconds: float) -> None:
    """From now on this process takes it to be so much later than it is."""
    _replace_in(vars(time), _readers_of_time(seconds))
    # A subclass in its place would be no `datetime` to libraries that compare types.
    [of_class] = gc.get_referents(datetime.__dict__)
    _replace_in(of_class, _readers_of_datetime(seconds))
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))


def _readers_of_time(seconds: float) -> dict[str, Any]:
    time_ns, clock_gettime_ns = time.time_ns, time.clock_gettime_ns
    gmtime, localtime = time.gmtime, time.localtime

    def now_ns() -> int:
        return time_ns() + round(seconds * _NS)

    def now() -> float:
        return now_ns() / _NS

    def clock_ns(clock: int) -> int:
        return now_ns() if clock == time.CLOCK_REALTIME else clock_gettime_ns(clock)

    return {
        "time": now,
        "time_ns": now_ns,
        "clock_gettime": lambda clock: clock_ns(clock) / _NS,
        "clock_gettime_ns": clock_ns,
        "gmtime": lambda at=None: gmtime(now() if at is None else at),
        "localtime": lambda at=None: localtime(now() if at is None else at),
    }


def _readers_of_datetime(seconds: float) -> dict[str, Any]:
    real_now, real_utcnow = datetime.now, datetime.utcnow
    ahead = timedelta(seconds=seconds)

    def now(_: type[datetime], tz: tzinfo | None = None) -> datetime:
        return real_now(tz) + ahead

    def utcnow(_: type[datetime]) -> datetime:
        return real_utcnow() + ahead

    return {"now": classmethod(now), "utcnow": classmethod(utcnow)}


def _replace_in(names: dict[str, Any], readers: dict[str, Any]) -> None:
    assert set(readers) <= set(names)
    names.update(readers)


if __name__ == "__main__":
    put_ahead(float(sys.argv.pop(1)))
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
