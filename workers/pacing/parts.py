"""The parts of the engine that rounds use, and the ends that a round comes to."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import NamedTuple

import msgspec

from workers.attempts import Batch
from workers.breakers import Breakers
from workers.outages import Stop
from workers.pacing.places import Places
from workers.receivers import Receivers
from workers.recorder import Recorder
from workers.replay_jobs import ReplayJobs
from workers.slots import Slots
from workers.sorting import Sorting
from zaqar_notify.clock import Clock


class Rest(msgspec.Struct, frozen=True):
    """The end of a round that leaves something: another job goes on with it in `delay` seconds, or before that if
    more is parked and it `is_asleep`."""

    delay: int = 0
    is_asleep: bool = False
    failures: int = 0
    failed_at: datetime | None = None
    ready_at: datetime | None = None


class Ended(Enum):
    """The other ends of a round."""

    EMPTY = "nothing is left on the queue"
    NOT_OURS = "this job is not to go on"


class Parts(NamedTuple):
    """The parts of the engine that rounds use."""

    receivers: Receivers
    sorting: Sorting
    slots: Slots[Batch]
    jobs: ReplayJobs
    places: Places
    recorder: Recorder
    breakers: Breakers
    clock: Clock
    stop: Stop
