"""The first argument of each service function: the parts that they work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from zaqar_notify.clock import Clock
from zaqar_notify.delivery.kinds import Kinds
from zaqar_notify.health import Health
from zaqar_notify.metrics import Metrics
from zaqar_notify.ports import Doorbell
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage


@dataclass(frozen=True, slots=True)
class Service:
    storage: Storage
    settings: Settings
    clock: Clock
    doorbell: Doorbell
    kinds: Kinds
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=Health)
