"""The options of Zaqar 23, and of the libraries of OpenStack in its sample file, by what becomes of them."""

from __future__ import annotations

import re

from zaqar_notify.operations.zaqar.conf import DEFAULT, Option

MONGODB_STORES = ("drivers:message_store:mongodb", "drivers:management_store:mongodb")
REDIS_STORES = ("drivers:message_store:redis", "drivers:management_store:redis")
SQL_STORE = "drivers:management_store:sqlalchemy"
SWIFT_STORE = "drivers:message_store:swift"
WSGI = "drivers:transport:wsgi"
WEBSOCKET = "drivers:transport:websocket"
KEYSTONE = "keystone_authtoken"

_TRANSPORT = (
    "default_message_ttl",
    "default_message_delay",
    "default_claim_ttl",
    "default_claim_grace",
    "default_subscription_ttl",
    "max_queues_per_page",
    "max_messages_per_page",
    "max_subscriptions_per_page",
    "max_messages_per_claim_or_pop",
    "max_queue_metadata",
    "max_messages_post_size",
    "max_message_ttl",
    "max_message_delay",
    "max_claim_ttl",
    "max_claim_grace",
    "client_id_uuid_safe",
    "min_length_client_id",
    "max_length_client_id",
    "message_delete_with_claim_id",
)
_NOTIFICATION = ("require_confirmation", "external_confirmation_url")

SAME = (
    *(Option(DEFAULT, name) for name in ("admin_mode", "unreliable", "enable_checksum")),
    *(Option("transport", name) for name in _TRANSPORT),
    *(Option("notification", name) for name in _NOTIFICATION),
)
"""A setting of ours has the option's name and meaning."""

_READ = {
    DEFAULT: ("auth_strategy", "enable_deprecated_api_versions", "debug", "use_json"),
    "drivers": ("message_store", "management_store", "transport"),
    **dict.fromkeys(MONGODB_STORES, ("uri", "database")),
    **dict.fromkeys(REDIS_STORES, ("uri",)),
    SQL_STORE: ("uri",),
    WSGI: ("bind", "port"),
    WEBSOCKET: ("port", "external_port"),
    "transport": ("subscriber_types",),
    "signed_url": ("secret_key",),
    "storage": ("message_pipeline",),
    "notification": (
        "smtp_mode",
        "smtp_host",
        "smtp_port",
        "smtp_user_name",
        "smtp_user_password",
        "smtp_command",
    ),
    "cors": ("allowed_origin",),
    "oslo_policy": ("policy_file",),
}
_READ_OF_MONGODB = ("ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs")
READ = frozenset(
    Option(title, name)
    for title, names in [*_READ.items(), *((each, _READ_OF_MONGODB) for each in MONGODB_STORES)]
    for name in names
)
"""Options that become other settings, or whose meaning is told in the place of these."""

READ_SECTIONS = frozenset({KEYSTONE, "trustee"})
"""Sections that are read as a whole: their options depend on the kind of account."""

_OF_LOGS = re.compile(
    "log|use_|syslog|max_logfile|watch_log|default_log|publish_errors|instance_|rate_limit_|fatal_"
)
"""Names of oslo.log's options begin so."""

_LOGS = "logs go to standard error, a line for each event (ZAQAR_LOG_LEVEL, ZAQAR_LOG_FORMAT)"
_RECONNECTS = "the service connects again by itself, and answers 503 meanwhile"
_PIPELINE = "the service has filters of messages only (ZAQAR_FILTERS, docs/add-a-filter.md)"
_TEMPLATE = "confirmation mails have a text of the service's own"

REASONS = {
    Option(
        DEFAULT, "pooling"
    ): "pools can always be registered; their routes need ZAQAR_ADMIN_MODE",
    Option(
        "pooling:catalog", "enable_virtual_pool"
    ): "it is always on: a queue for which no pool fits is on the service's own store",
    Option("transport", "max_flavors_per_page"): "a page of flavors has 20 at most",
    Option("transport", "max_pools_per_page"): "a page of pools has 20 at most",
    Option("transport", "message_encryption_algorithms"): "the service encrypts with AES-256-GCM",
    Option(
        "transport", "message_encryption_key"
    ): "queues with _enable_encrypt_messages need ZAQAR_ENCRYPTION_KEYS, "
    "a new key: `openssl rand -base64 32` makes one (docs/security.md). Import with --messages before Zaqar stops, "
    "because its encrypted messages can be read through its API only",
    Option(
        "notification", "max_notifier_workers"
    ): "deliveries are not threads; ZAQAR_DELIVERY_CONCURRENCY (256) is "
    "the most under way in one process",
    Option("notification", "subscription_confirmation_email_template"): _TEMPLATE,
    Option("notification", "unsubscribe_confirmation_email_template"): _TEMPLATE,
    **{
        Option("storage", f"{kind}_pipeline"): _PIPELINE
        for kind in ("queue", "claim", "subscription", "topic")
    },
    **{Option(title, "partitions"): "one database has all messages" for title in MONGODB_STORES},
    **{
        Option(title, name): _RECONNECTS
        for title in (*MONGODB_STORES, *REDIS_STORES)
        for name in (
            "max_attempts",
            "max_retry_sleep",
            "max_retry_jitter",
            "max_reconnect_attempts",
            "reconnect_sleep",
        )
    },
    **{
        Option("cors", name): "the headers and methods that pages may use are fixed"
        for name in (
            "allow_credentials",
            "expose_headers",
            "max_age",
            "allow_methods",
            "allow_headers",
        )
    },
    Option(
        "oslo_policy", "enforce_new_defaults"
    ): "ZAQAR_POLICY_DEFAULTS=strict has stricter defaults",
    Option("oslo_policy", "enforce_scope"): "tokens without a project are refused",
    Option("oslo_policy", "policy_default_rule"): "an unknown rule in the policy file is refused",
    Option(
        "oslo_policy", "policy_dirs"
    ): "the policy is one file: add their rules to ZAQAR_POLICY_FILE",
}
"""Reasons why options have no counterpart."""

SECTION_REASONS = {
    WEBSOCKET: "the WebSocket is on the API's own address, and notifications need no port",
    SWIFT_STORE: "Swift can't be a store: name MongoDB, or use `zaqar-notify up`",
    "cache": "each process remembers validated tokens itself (ZAQAR_KEYSTONE_CACHE_SECONDS)",
    "oslo_middleware": "ZAQAR_PUBLIC_URL is the address behind a proxy",
    "oslo_policy": "the policy file is on this machine",
    "oslo_reports": "`zaqar-notify doctor` and the metrics have such reports",
    "profiler": "requests are not traced; /metrics counts them, and each has a request id",
    "profiler_jaeger": "requests are not traced",
    "profiler_otlp": "requests are not traced",
}
"""Reasons for all other options of a section."""


def reason_of(option: Option) -> str | None:
    """Why the option has no counterpart; None: it has one, or it is unknown."""
    if is_used(option):
        return None
    if option.section == DEFAULT and _OF_LOGS.match(option.name):
        return _LOGS
    return REASONS.get(option) or SECTION_REASONS.get(option.section)


def is_used(option: Option) -> bool:
    return option in SAME or option in READ or option.section in READ_SECTIONS
