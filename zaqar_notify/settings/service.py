"""The settings of the service: stores, limits, processes, logs."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from zaqar_notify.settings.section import Count, LeastMinute, Seconds, Section, Words

VERSIONS = ("v2", "v1.1", "v1")
"""Versions of the Zaqar API, the newest first."""

# No escapes: the path is compared with requests' and put into answers as it stands.
_PUBLIC_URL = re.compile(r"https?://[^/?#\s\"]+(/[A-Za-z0-9._~-]+)*/?")


class StorageSettings(Section):
    """The store keeps queues, messages and subscriptions."""

    title = "Storage"

    store_uri: str = Field(
        "",
        description="Where messages live: sqlite:///PATH, mongodb://HOSTS/?replicaSet=NAME or redis://HOST:PORT/N; packages can add drivers. With `up`, a file in its directory unless this is set.",
    )
    control_uri: str = Field(
        "",
        description="Where queues' metadata, subscriptions, tokens, quotas, pools and the catalogue live; empty: beside the messages of ZAQAR_STORE_URI.",
    )
    unreliable: bool = Field(
        False,
        description="Accept a store that can lose acknowledged writes: a standalone MongoDB, one older than 6.0, or a weak write concern in its URI.",
    )
    sweep_seconds: Annotated[float, Field(gt=0)] = Field(
        1, description="Pause between sweeps of expired messages, seconds."
    )


class BrokerSettings(Section):
    """The broker wakes the workers of a cluster; `zaqar-notify up` needs none."""

    title = "Broker"

    broker_uri: str = Field(
        "",
        description="Celery broker that wakes the workers: redis://HOST:PORT/N, rediss://… or amqp://…",
    )
    broker_key_prefix: str = Field(
        "zaqar-notify:",
        min_length=1,
        description="Prefix of every key in Redis; two deployments on one Redis need two.",
    )


class LimitSettings(Section):
    """Limits of requests, and the values that apply where a request names none."""

    title = "Limits"
    at_most = (
        ("default_message_ttl", "max_message_ttl"),
        ("default_message_delay", "max_message_delay"),
        ("default_claim_ttl", "max_claim_ttl"),
        ("default_claim_grace", "max_claim_grace"),
        ("min_length_client_id", "max_length_client_id"),
    )

    default_message_ttl: LeastMinute = Field(
        3600, description="Life of a message posted without ttl to a queue without one, seconds."
    )
    default_message_delay: Seconds = Field(
        0, description="Shown as a queue's default delay; posts are not delayed by it, seconds."
    )
    max_message_ttl: LeastMinute = Field(1209600, description="Longest life of a message, seconds.")
    max_message_delay: Seconds = Field(900, description="Longest delay of a message, seconds.")
    max_messages_post_size: Count = Field(
        262144, description="Largest body of a post, bytes; a queue may ask for less."
    )
    enable_checksum: bool = Field(False, description="Store and show an MD5 checksum of each body.")
    message_delete_with_claim_id: bool = Field(
        False,
        description="Deleting several messages by id then needs claim_ids for the claimed ones.",
    )
    idempotency_keep_seconds: Seconds = Field(
        86400,
        description="How long the answer to a post with an Idempotency-Key is remembered, seconds.",
    )
    default_claim_ttl: LeastMinute = Field(
        300, description="Lease of a claim made without ttl, seconds."
    )
    default_claim_grace: LeastMinute = Field(
        60, description="Life past the lease for messages that would expire before, seconds."
    )
    max_claim_ttl: LeastMinute = Field(43200, description="Longest lease, seconds.")
    max_claim_grace: LeastMinute = Field(43200, description="Longest grace, seconds.")
    max_messages_per_claim_or_pop: Count = Field(
        20, description="Most messages in one claim or pop."
    )
    max_queue_metadata: Count = Field(
        65536, description="Largest body of a queue's PUT or PATCH, bytes."
    )
    max_queues_per_page: Count = Field(20, description="Most queues in one page.")
    max_messages_per_page: Count = Field(
        20, description="Most messages in one page, or ids in one request."
    )
    max_subscriptions_per_page: Count = Field(20, description="Most subscriptions in one page.")
    max_wait_seconds: Seconds = Field(20, description="Longest long poll (wait=N), seconds.")
    client_id_uuid_safe: Literal["strict", "off"] = Field(
        "strict", description="strict: Client-ID is a UUID. off: any text of the length below."
    )
    min_length_client_id: Count = Field(
        10, description="Shortest Client-ID when not strict, characters."
    )
    max_length_client_id: Count = Field(
        36, description="Longest Client-ID when not strict, characters."
    )


class ServiceSettings(Section):
    """The API, and the processes that serve it."""

    title = "Service"

    public_url: str = Field(
        "",
        description="This service's address as clients and subscribers see it, e.g. https://HOST/messaging; its path is the prefix of every link.",
    )
    max_connections: Count = Field(
        10_000,
        description="Most connections of clients at once in one process, and at most half the files it may open; idle ones make room.",
    )
    max_buffered_bytes: Count = Field(
        134_217_728,
        description="Most bytes in one process of answers that wait to be read, and of requests that have arrived in part; past it the connection with most is ended.",
    )
    max_requests: Count = Field(
        4000,
        description="Most requests being answered at once in one process, without long polls that wait; more are answered 503, those of one project at three quarters.",
    )
    max_body_bytes: Count = Field(
        134_217_728,
        description="Most bytes in one process of the bodies of requests being answered, without those of up to 4 KiB; more are answered 503, those of one project at three quarters.",
    )
    shutdown_seconds: Annotated[float, Field(gt=0)] = Field(
        8, description="Time for requests and deliveries under way when asked to stop, seconds."
    )
    versions: Words = Field(
        ("v2", "v1.1"),
        description="Versions of the Zaqar API that are served: v2, which is always among them, v1.1 and v1. zaqar-notify up serves all, unless this is set.",
    )
    admin_mode: bool = Field(
        False,
        description="Serve the operator's routes (/v2/health) too; keep such a process from clients.",
    )

    @property
    def most_waiting_for_callers(self) -> int:
        """Requests that may wait at once for a source of tokens to tell their callers; there are two sources."""
        return max(1, self.max_requests // 4)

    @cached_property
    def public_path(self) -> str:
        """The path of the public URL, which every link begins with: "" or "/messaging"."""
        return urlsplit(self.public_url).path.rstrip("/")

    @field_validator("versions")
    @classmethod
    def _are_versions(cls, value: Words) -> Words:
        for word in value:
            if word not in VERSIONS:
                raise ValueError(f"{word!r} is none of {', '.join(VERSIONS)}")
        if "v2" not in value:
            raise ValueError("v2 must be among them: it has the subscriptions, tokens and quotas")
        return tuple(dict.fromkeys(value))

    @field_validator("public_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and not _PUBLIC_URL.fullmatch(value):
            raise ValueError("must be like https://HOST:PORT/PATH, the path of A-Z a-z 0-9 . _ ~ -")
        return value


class FilterSettings(Section):
    """Message filters of other packages see each post before it is stored, and may change, refuse or route it."""

    title = "Message filters"

    filters: Words = Field(
        (),
        description="Names of the filters in their order, comma separated; each is installed as an entry point of zaqar_notify.filters.",
    )


class LogSettings(Section):
    """The output of a process for its operator."""

    title = "Logs and metrics"

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="text for people, json for machines."
    )
    audit: bool = Field(
        False,
        description="Log a record of each request that changes something: who, what, and the status; at any log level.",
    )
    metrics: bool = Field(
        True,
        description="Show Prometheus metrics at GET /metrics of the API, without authentication; they name no project and no queue.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address of the port that shows each process's own metrics."
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0,
        description="Port that shows each process's own metrics, or the next free of 16; 0: none.",
    )
