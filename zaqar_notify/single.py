"""What the single-process shape keeps in its data directory, and where its deliveries may go."""

from __future__ import annotations

from ipaddress import ip_network

from zaqar_notify.settings import Network, Settings

DATABASE = "zaqar-notify.db"
KEYS = "keys.env"
KEY_NAMES = ("SIGNED_URL_SECRET", "WEBHOOK_SECRET")
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
"""Allowed beside public addresses, unless ZAQAR_DELIVERY_ALLOW says what is."""


def allowed_networks(settings: Settings) -> tuple[Network, ...]:
    """An empty ZAQAR_DELIVERY_ALLOW allows none, too."""
    if "delivery_allow" in settings.model_fields_set:
        return settings.delivery_allow
    return LOOPBACK
