"""Looking at the broker, for `zaqar-notify doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from zaqar_notify.errors import StartRefused
from zaqar_notify.findings import ANSWER_SECONDS, Finding, ok, problem, warning
from zaqar_notify.operations import broker_uri
from zaqar_notify.operations.broker_uri import BrokerUri
from zaqar_notify.settings import Settings, shown


async def diagnose(settings: Settings, *, is_needed: bool) -> list[Finding]:
    """Whether the broker answers and keeps its messages. Changes nothing.

    Args:
        is_needed: Whether it is a problem if there is none.
    """
    uri = settings.broker_uri
    if not uri:
        if not is_needed:
            return []
        return [
            problem(
                "broker",
                "ZAQAR_BROKER_URI is not set",
                "Name the broker that wakes the workers; for `up`, which needs none, run the doctor with --data DIR",
            )
        ]
    try:
        broker = broker_uri.parse(uri)
        if broker.is_redis:
            return await _redis(broker)
        return await asyncio.to_thread(_other_broker, settings)
    except StartRefused as error:
        return [problem("broker", str(error), "Correct ZAQAR_BROKER_URI")]
    except (OSError, TimeoutError, ValueError) as error:
        return [_silent_broker(uri, error)]


def _silent_broker(uri: str, error: BaseException) -> Finding:
    return problem(
        "broker",
        f"{shown(uri)} gives no answer: {type(error).__name__}",
        "Start it, or correct ZAQAR_BROKER_URI; until then deliveries are some seconds late",
    )


def _refusing_broker(uri: str, error: BaseException) -> Finding:
    return problem(
        "broker",
        f"{shown(uri)} refuses us: {type(error).__name__}: {error}"[:300],
        "Correct its user, password or rights; until then deliveries are some seconds late",
    )


async def _redis(broker: BrokerUri) -> list[Finding]:
    # Only processes with such a broker pay for its client.
    from redis.asyncio import Redis
    from redis.exceptions import AuthenticationError, RedisError, ResponseError

    uri = broker.uri
    client = Redis.from_url(
        uri,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        **(broker.tls or {}),
    )
    try:
        facts = await client.info()
    except (AuthenticationError, ResponseError) as error:
        return [_refusing_broker(uri, error)]
    except RedisError as error:
        return [_silent_broker(uri, error)]
    finally:
        await client.aclose()
    findings = [ok("broker", f"{shown(uri)} answers, {redis_release(facts)}")]
    if facts.get("role") == "slave":
        findings.append(
            problem(
                "broker",
                "Redis is a replica and takes no wake-ups",
                "Name its primary in ZAQAR_BROKER_URI; until then deliveries are some seconds late",
            )
        )
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory") and policy != "noeviction":
        findings.append(
            warning(
                "broker",
                f"Redis throws keys away when it is full (maxmemory-policy {policy})",
                "Set maxmemory-policy noeviction: a lost wake-up makes deliveries some seconds late",
            )
        )
    if not facts.get("aof_enabled"):
        findings.append(
            warning(
                "broker",
                "Redis forgets waiting wake-ups when it restarts (appendonly no)",
                "Set appendonly yes; nothing is lost without it, deliveries are some seconds late",
            )
        )
    return findings


def redis_release(facts: Mapping[str, object]) -> str:
    """The server's name and version, by its INFO: Valkey gives itself out for Redis 7.2.4."""
    if "valkey_version" in facts:
        return f"Valkey {facts['valkey_version']}"
    return f"Redis {facts.get('redis_version', '?')}"


def _other_broker(settings: Settings) -> list[Finding]:
    from kombu.exceptions import KombuError

    from zaqar_notify.operations.broker import celery_application

    connection = celery_application(lambda: settings).connection_for_write()
    # A refused password or virtual host is an error of the transport's own.
    refusals: tuple[type[BaseException], ...] = (
        KombuError,
        *connection.connection_errors,
        *connection.channel_errors,
    )
    try:
        connection.ensure_connection(max_retries=1, timeout=ANSWER_SECONDS)
    except refusals as error:
        return [_silent_broker(settings.broker_uri, error)]
    finally:
        connection.release()
    return [ok("broker", f"{shown(settings.broker_uri)} answers")]
