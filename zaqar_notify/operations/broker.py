"""The broker: the agreement between processes that ring and workers that are rung.

A message says that a partition has work, and nothing else; so the broker may lose, repeat or keep
it, be flushed or stay away: every worker looks for due work by itself. Nothing is ever put off by
the broker (no eta, countdown or retry) and nothing comes back through it (no results).

All keys in Redis begin with `ZAQAR_BROKER_KEY_PREFIX`, so that the database may be shared: with other
applications, and with another deployment that has another prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader
from kombu import Connection, Exchange, Queue

from zaqar_notify.operations import broker_uri
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import DEFAULT_POOL, Partition

DRAIN = "zaqar_notify.drain.v1"
"""The one task: its arguments say which partition has work, see `drain_arguments`."""

QUEUE = "zaqar-notify.drain"

LOOK_AGAIN_SECONDS = 0.010
"""A rung worker looks for work at once, and again after this: a ring may come shortly before its work is stored."""

MAX_WAITING = 64
"""About as many rings wait in the broker; more would only repeat them."""

MAX_CHILD_KIB = 1 << 20
"""A prefork child is replaced, having drained, when it has taken so much memory."""


def drain_arguments(partition: Partition) -> tuple[int] | tuple[int, str]:
    """Of the task: number and pool. Workers of former releases know only the default pool, unnamed."""
    if partition.pool == DEFAULT_POOL:
        return (partition.number,)
    return (partition.number, partition.pool)


class OurSettingsAlone(AppLoader):
    """Reads no module of settings, even if `CELERY_CONFIG_MODULE` names one."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        return {}


class Application(Celery):
    """Knows our broker only, and no result backend.

    Celery would take `CELERY_BROKER_URL` and `CELERY_RESULT_BACKEND`, meant for another application
    on the host, before its own configuration.
    """

    backend_cls = "disabled"

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        return super().connection_for_read(self.conf["broker_url"], **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        return super().connection_for_write(self.conf["broker_url"], **options)


def celery_application(settings: Callable[[], Settings]) -> Celery:
    """A Celery application on the broker of `settings`, which are asked for when first needed."""
    app = Application("zaqar-notify", loader=OurSettingsAlone, set_as_current=False)
    app.add_defaults(lambda: _configuration(settings()))
    return app


def _configuration(settings: Settings) -> dict[str, Any]:
    broker = broker_uri.parse(settings.broker_uri)
    return {
        "broker_url": broker.uri,
        "broker_use_ssl": broker.tls or False,
        "broker_transport_options": _transport_options(broker, settings.broker_key_prefix),
        "broker_connection_timeout": 3,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_acquire_timeout": 1,
        "task_queues": [
            Queue(
                QUEUE,
                Exchange(QUEUE),
                routing_key=QUEUE,
                max_length=MAX_WAITING,
                durable=True,
                # A ring that is lost with its worker is made up for as any lost ring is. A receipt is
                # four commands more, and one that comes after the broker was away ends the worker:
                # kombu looks for the connection that it had.
                no_ack=True,
            )
        ],
        "task_default_queue": QUEUE,
        "task_default_delivery_mode": "transient",
        "task_publish_retry": False,
        "task_ignore_result": True,
        "task_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "worker_concurrency": 1,
        "worker_prefetch_multiplier": 1,
        "worker_disable_rate_limits": True,
        "worker_eta_task_limit": 100,
        "worker_max_memory_per_child": MAX_CHILD_KIB,
        # Nothing is acknowledged late, so there is nothing to cancel. Without these a lost connection
        # is good for a dozen lines in the log.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_enable_prefetch_count_reduction": False,
        "worker_soft_shutdown_timeout": settings.shutdown_seconds,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


def _transport_options(broker: broker_uri.BrokerUri, key_prefix: str) -> dict[str, Any]:
    if not broker.is_redis:
        return {"confirm_publish": False}
    return {
        "global_keyprefix": key_prefix,
        # Without these a broker that goes without a word is waited for as long as a minute, or ever.
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": True,
    }
