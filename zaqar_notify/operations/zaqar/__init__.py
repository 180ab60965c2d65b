"""Coming from Zaqar: `conf.py` reads a zaqar.conf, `options.py` knows its options, `stores.py`, `topics.py` and `mail.py` find
our settings for them, and `translation.py` prints these."""

from __future__ import annotations

from zaqar_notify.operations.zaqar.conf import ZaqarConf, read_zaqar_conf
from zaqar_notify.operations.zaqar.translation import translated

__all__ = ["ZaqarConf", "read_zaqar_conf", "translated"]
