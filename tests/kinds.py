"""The kinds of subscribers that every test knows."""

from sinks.registry import load_kinds
from zaqar_notify.settings import Settings

KINDS = load_kinds(Settings())
