"""The settings that a process of a cluster needs."""

from __future__ import annotations

import logging

from zaqar_notify.delivery.filters import load_filters
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations import broker_uri
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import driver_of

logger = logging.getLogger(__name__)


def cluster_settings(settings: Settings) -> Settings:
    """The settings, if a process of a cluster can start with them.

    Raises:
        StartRefused: No store or broker is named, or the broker's URI can't be read, or the library
            that speaks to such a broker is missing; subscribers are
            to confirm, and no key signs the confirmation; posts may be larger than the store takes; a message filter
            is unknown.
    """
    if not settings.store_uri:
        raise StartRefused(
            "ZAQAR_STORE_URI is not set: name the store, as in mongodb://HOSTS/?replicaSet=NAME"
        )
    if not settings.broker_uri:
        raise StartRefused(
            "ZAQAR_BROKER_URI is not set: name the broker that wakes the workers, as in redis://HOST:6379/0"
        )
    broker_uri.parse(settings.broker_uri)
    _refuse_missing_library(settings.broker_uri)
    if settings.require_confirmation and not settings.signed_url_secrets:
        raise StartRefused(
            "ZAQAR_REQUIRE_CONFIRMATION needs ZAQAR_SIGNED_URL_SECRETS: without it the service can't tell the "
            "subscriber's confirmation from another client's"
        )
    load_filters(settings)
    refuse_large_posts(settings)
    return settings


def refuse_large_posts(settings: Settings) -> None:
    """Raise StartRefused if posts may be larger than the store takes."""
    driver = driver_of(settings.store_uri)
    most = driver.most_post_bytes
    if most is not None and settings.max_messages_post_size > most:
        raise StartRefused(
            f"ZAQAR_MAX_MESSAGES_POST_SIZE is {settings.max_messages_post_size}; on {driver.about} it may "
            f"be {most} at most"
        )


def refuse_several_processes(settings: Settings, remedy: str) -> None:
    """Raise StartRefused if only one process can use the store."""
    uris = {"ZAQAR_STORE_URI": settings.store_uri, "ZAQAR_CONTROL_URI": settings.control_uri}
    for setting, uri in uris.items():
        if uri and not (driver := driver_of(uri)).is_shared:
            raise StartRefused(
                f"{setting} names {driver.about}, which one process can use: {remedy}"
            )


def _refuse_missing_library(uri: str) -> None:
    """Later on it would pass for a broker that gives no answer."""
    from kombu.transport import get_transport_cls

    scheme = uri.partition(":")[0]
    try:
        get_transport_cls(scheme)
    except ImportError as error:
        raise StartRefused(
            f"The library for {scheme} brokers can't be loaded ({error}); install zaqar-notify together "
            "with its requirements"
        ) from error


def warn_of_unsigned_webhooks(settings: Settings) -> None:
    """Warn at a start that webhooks are not signed, so receivers can't verify them."""
    if not settings.webhook_secret.get_secret_value():
        logger.warning(
            "Webhooks go unsigned: ZAQAR_WEBHOOK_SECRET is not set",
            extra={"action": "webhooks_unsigned"},
        )
