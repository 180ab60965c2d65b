"""Settings, read once at the start and handed down.

Each field is `ZAQAR_<NAME>` in the environment, or in the file that `ZAQAR_CONFIG_FILE` names (same
spelling, `NAME=value` lines); the environment wins. `pages` lists them all.
"""

from zaqar_notify.settings.authentication import AUTH_NONE, AUTH_TOKEN
from zaqar_notify.settings.loading import (
    CLIENT_NAMES,
    CONFIG_FILE,
    NAMES,
    PREFIX,
    SECTIONS,
    TEST_PREFIX,
    Settings,
    load_settings,
    shown,
    sources,
    variable,
)
from zaqar_notify.settings.section import Network, Section
from zaqar_notify.settings.service import VERSIONS

__all__ = [
    "AUTH_NONE",
    "AUTH_TOKEN",
    "CLIENT_NAMES",
    "CONFIG_FILE",
    "NAMES",
    "PREFIX",
    "SECTIONS",
    "TEST_PREFIX",
    "VERSIONS",
    "Network",
    "Section",
    "Settings",
    "load_settings",
    "shown",
    "sources",
    "variable",
]
