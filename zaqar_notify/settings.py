"""Settings: one class, read once at start and handed down.

Each field is `ZAQAR_<NAME>` in the environment, or in the file that `ZAQAR_CONFIG_FILE` names (same
spelling, `NAME=value` lines); the environment wins. `settings.example.env` lists them all.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from zaqar_notify.errors import StartRefused, ValidationFailed
from zaqar_notify.mail import is_mail_address, read_mailbox

PREFIX = "ZAQAR_"
CONFIG_FILE = "ZAQAR_CONFIG_FILE"
CLIENT_NAMES = ("ZAQAR_URL", "ZAQAR_PROJECT", "ZAQAR_CLIENT_ID", "ZAQAR_RECEIVE_SECRET")
"""Read by the command line for the client, not by the service."""
TEST_PREFIX = "ZAQAR_TEST_"
MASK = "********"

Network = IPv4Network | IPv6Network
Words = tuple[str, ...]
Networks = tuple[Network, ...]
Secrets = tuple[SecretStr, ...]

Seconds = Annotated[int, Field(ge=0)]
LeastMinute = Annotated[int, Field(ge=60)]
"""Seconds that a client may name, too: the API takes no fewer."""
Count = Annotated[int, Field(ge=1)]


# No escapes: the path is compared with requests' and put into answers as it stands.
_PUBLIC_URL = re.compile(r"https?://[^/?#\s\"]+(/[A-Za-z0-9._~-]+)*/?")


def _words(value: object) -> object:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


class Settings(BaseModel):
    """Every setting, checked. Built from its arguments alone: only `load_settings` looks around."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **values: Any) -> None:
        """Values may be texts, as the environment has them; missing ones take their default."""
        super().__init__(**values)

    # Stores
    store_uri: str = Field(
        "", description="Where messages live: sqlite:///PATH or mongodb://HOSTS/?replicaSet=NAME."
    )
    unreliable: bool = Field(
        False,
        description="Accept a store that can lose acknowledged writes: a standalone MongoDB, one older than 6.0, or a weak write concern in its URI.",
    )
    broker_uri: str = Field(
        "",
        description="Celery broker that wakes the workers: redis://HOST:PORT/N, rediss://… or amqp://…",
    )
    broker_key_prefix: str = Field(
        "zaqar-notify:",
        min_length=1,
        description="What every key in Redis begins with; two deployments on one Redis need two.",
    )

    # Messages
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

    # Claims
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

    # Queues and pages
    max_queue_metadata: Count = Field(
        65536, description="Largest body of a queue's PUT or PATCH, bytes."
    )
    max_queues_per_page: Count = Field(20, description="Most queues in one page.")
    max_messages_per_page: Count = Field(
        20, description="Most messages in one page, or ids in one request."
    )
    max_subscriptions_per_page: Count = Field(20, description="Most subscriptions in one page.")
    max_wait_seconds: Seconds = Field(20, description="Longest long poll (wait=N), seconds.")

    # Clients
    client_id_uuid_safe: Literal["strict", "off"] = Field(
        "strict", description="strict: Client-ID is a UUID. off: any text of the length below."
    )
    min_length_client_id: Count = Field(
        10, description="Shortest Client-ID when not strict, characters."
    )
    max_length_client_id: Count = Field(
        36, description="Longest Client-ID when not strict, characters."
    )

    # Subscriptions
    default_subscription_ttl: LeastMinute = Field(
        3600, description="Life of a subscription made without ttl, seconds."
    )
    subscriber_types: Words = Field(
        ("http", "https", "mailto", "queue"),
        description="URI schemes a subscriber may have, comma separated.",
    )
    require_confirmation: bool = Field(
        False, description="Notify only subscribers that confirmed; needs signed URL secrets."
    )
    public_url: str = Field(
        "",
        description="This service's address as clients and subscribers see it, e.g. https://HOST/messaging; its path is the prefix of every link.",
    )
    external_confirmation_url: str = Field("", description="Page that confirmation mails link to.")
    signed_url_secrets: Secrets = Field(
        (), description="Keys of pre-signed URLs, comma separated; the first signs, all verify."
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Master key from which each subscription's webhook signing secret is derived.",
    )
    webhook_secret_overlap_seconds: Seconds = Field(
        86400,
        description="How long a rotated signing secret still signs beside the new one, seconds.",
    )

    # Delivery
    delivery_allow: Networks = Field(
        (),
        description="Networks (CIDR, comma separated) that deliveries may reach although they are not public.",
    )
    delivery_deny: Networks = Field(
        (),
        description="Networks (CIDR, comma separated) that deliveries may never reach; wins over allow.",
    )
    delivery_connect_timeout_seconds: float = Field(
        3.05,
        gt=0,
        description="Time to connect to a receiver, name look-up and TLS included, seconds.",
    )
    delivery_timeout_seconds: float = Field(
        15,
        gt=0,
        description="Time for one whole try, seconds; mails have the minutes of RFC 5321 instead.",
    )
    delivery_concurrency: Count = Field(
        256,
        description="Most tries under way at once in one process; one project alone has three quarters.",
    )
    delivery_concurrency_per_endpoint: Count = Field(
        16, description="Most tries under way at once to one subscriber, in one process."
    )
    delivery_breaker_failures: Count = Field(
        5, description="Failures in a row after which a subscriber gets one try at a time."
    )
    delivery_lease_seconds: Count = Field(
        12,
        description="Lease of a worker on the deliveries it works on, seconds; renewed meanwhile. What a dead worker had goes on after it.",
    )
    delivery_max_age_seconds: Count = Field(
        604800,
        description="How long a delivery is owed at most before it is given up, seconds.",
    )
    delivery_max_hops: Count = Field(
        4, description="Most queues that a message may cross by queue subscriptions."
    )
    delivery_partitions: Count = Field(
        1, description="Parts that owed deliveries are split into; workers share them out."
    )
    notify_delayed_at_once: bool = Field(
        False,
        description="Notify of a delayed message when it is posted, as Zaqar does, not when it is due.",
    )
    retry_default: Literal["standard", "zaqar", "sns"] = Field(
        "standard",
        description="Retries where neither subscription nor queue has a policy: Standard Webhooks' over three days, Zaqar's over three minutes, or SNS's.",
    )
    retry_jitter: float = Field(
        0.1, ge=0, le=0.5, description="Part of a retry's wait that is random, 0 to 0.5."
    )

    # Mail
    smtp_host: str = Field(
        "",
        description="Mail relay; without one (and without a sendmail command) mailto: subscribers are refused.",
    )
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = Field(
        25, description="Port of the mail relay."
    )
    smtp_sender: str = Field(
        "",
        description="Sender of all mails, which gets the bounces: ADDRESS or NAME <ADDRESS>; a mail relay needs one.",
    )
    smtp_senders: Words = Field(
        (),
        description="Who else may be the sender if a subscription asks for it (options.from): addresses, and @DOMAIN for all of a domain, comma separated. Others become Reply-To.",
    )
    smtp_connections: Count = Field(
        8,
        description="Most connections to the mail relay (or sendmail commands) at once, in one process; half of them for one project.",
    )
    smtp_username: str = Field("", description="User at the mail relay; empty: no login.")
    smtp_password: SecretStr = Field(SecretStr(""), description="Password at the mail relay.")
    smtp_tls: Literal["none", "starttls", "tls"] = Field(
        "none", description="none, starttls, or tls from the start."
    )
    sendmail_command: str = Field(
        "",
        description="Command that reads a mail from standard input and gets its recipient as last argument, e.g. /usr/sbin/sendmail -oi; used instead of a relay.",
    )

    # Process
    max_connections: Count = Field(
        10_000,
        description="Most connections of clients at once in one process, and at most half the files it may open; idle ones make room.",
    )
    max_buffered_bytes: Count = Field(
        134_217_728,
        description="Most bytes in one process of answers that wait to be read, and of requests that have arrived in part; past it the connection with most is ended.",
    )
    shutdown_seconds: Annotated[float, Field(gt=0)] = Field(
        8, description="Time for requests and deliveries under way when asked to stop, seconds."
    )
    sweep_seconds: Annotated[float, Field(gt=0)] = Field(
        1, description="Pause between sweeps of expired messages, seconds."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="text for people, json for machines."
    )
    metrics: bool = Field(
        True,
        description="Show Prometheus metrics at GET /metrics of the API, to everybody; they name no project and no queue.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address of the port that shows each process's own metrics."
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0,
        description="Port that shows each process's own metrics, or the next free of 16; 0: none.",
    )
    admin_mode: bool = Field(
        False,
        description="Serve the operator's routes (/v2/health) too; keep such a process from clients.",
    )

    @cached_property
    def public_path(self) -> str:
        """The path of the public URL, which every link begins with: "" or "/messaging"."""
        return urlsplit(self.public_url).path.rstrip("/")

    @field_validator("public_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and not _PUBLIC_URL.fullmatch(value):
            raise ValueError("must be like https://HOST:PORT/PATH, the path of A-Z a-z 0-9 . _ ~ -")
        return value

    @field_validator("subscriber_types", "signed_url_secrets", "smtp_senders", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _words(value)

    @field_validator("sendmail_command")
    @classmethod
    def _can_be_split(cls, value: str) -> str:
        shlex.split(value)  # Its ValueError says what is wrong.
        return value

    @field_validator("smtp_sender")
    @classmethod
    def _is_mailbox(cls, value: str) -> str:
        try:
            if value:
                read_mailbox(value, "it")
        except ValidationFailed as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("smtp_senders")
    @classmethod
    def _are_addresses(cls, value: Words) -> Words:
        for word in value:
            if not is_mail_address(f"any{word}" if word.startswith("@") else word):
                raise ValueError(f"{word!r} is neither an address nor @ and a domain")
        return tuple(word.lower() for word in value)

    @field_validator("delivery_allow", "delivery_deny", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        words = _words(value)
        if not isinstance(words, tuple):
            return words
        return tuple(ip_network(word) if isinstance(word, str) else word for word in words)


class Given(NamedTuple):
    """The text of a setting that somebody gave, and where: "environment" or "file PATH"."""

    text: str
    source: str


def load_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """The settings of this process: `overrides`, then the environment, then the file, then defaults.

    Args:
        environ: Stands in for the process's environment.
        overrides: Fields of `Settings` that the command line decided.

    Raises:
        StartRefused: A value is wrong, a name unknown, or the file unreadable; the sentence says
            which, where and why, and shows no secret.
    """
    given = _given(os.environ if environ is None else environ)
    values: dict[str, object] = {name: value.text for name, value in given.items()}
    try:
        settings = Settings(**(values | overrides))
    except ValidationError as error:
        for name, value in overrides.items():
            given[name] = Given(shown(value), "command line")
        raise StartRefused(_sentence(error, given)) from None
    _refuse_contradictions(settings)
    return settings


def sources(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """For each field of `Settings` where its value comes from: "environment", "file PATH", "default".

    Raises:
        StartRefused: A name is unknown, or the file unreadable.
    """
    given = _given(os.environ if environ is None else environ)
    return {
        name: given[name].source if name in given else "default" for name in Settings.model_fields
    }


def variable(name: str) -> str:
    """The environment's name of a field: `smtp_host` is `ZAQAR_SMTP_HOST`."""
    return PREFIX + name.upper()


def shown(value: object) -> str:
    """A field's value as one writes it in the environment; secrets and URI passwords are masked."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ",".join(shown(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return _URI_PASSWORD.sub(rf"\1{MASK}@", str(value))


_URI_PASSWORD = re.compile(r"(://[^/:@]*:).*@")

# Kubernetes and Docker put these into the environment of every container that runs beside a service
# called zaqar or zaqar-something; they are nobody's spelling mistake.
_SERVICE_LINK = re.compile(
    r"ZAQAR_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)=.*"
    r"|ZAQAR_(\w+_)?PORT=(tcp|udp)://.*"
)


def _given(environ: Mapping[str, str]) -> dict[str, Given]:
    path = environ.get(CONFIG_FILE, "")
    in_file = _read_file(path) if path else {}
    in_environment = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
    _refuse_unknown(in_file, f"file {path}")
    _refuse_unknown(in_environment, "environment")
    given = {}
    for name in Settings.model_fields:
        if variable(name) in in_environment:
            given[name] = Given(in_environment[variable(name)], "environment")
        elif variable(name) in in_file:
            given[name] = Given(in_file[variable(name)], f"file {path}")
    return given


_AT_MOST = (
    ("default_message_ttl", "max_message_ttl"),
    ("default_message_delay", "max_message_delay"),
    ("default_claim_ttl", "max_claim_ttl"),
    ("default_claim_grace", "max_claim_grace"),
    ("min_length_client_id", "max_length_client_id"),
)


def _refuse_contradictions(settings: Settings) -> None:
    for lower, upper in _AT_MOST:
        low, high = getattr(settings, lower), getattr(settings, upper)
        if low > high:
            raise StartRefused(
                f"{variable(lower)}={low} is more than {variable(upper)}={high}; set both"
            )


def _read_file(path: str) -> dict[str, str]:
    # Only processes with a file pay for the parser.
    from dotenv.parser import parse_stream

    values = {}
    try:
        with Path(path).open(encoding="utf-8") as file:
            for binding in parse_stream(file):
                if binding.error or (binding.key is not None and binding.value is None):
                    raise StartRefused(
                        f"{CONFIG_FILE}: line {binding.original.line} of {path} is not NAME=value"
                    )
                if binding.key is not None and binding.value is not None:
                    values[binding.key] = binding.value
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StartRefused(f"{CONFIG_FILE}={path!r} can't be read: {reason}") from error
    return values


def _refuse_unknown(values: Mapping[str, str], source: str) -> None:
    known = {CONFIG_FILE, *CLIENT_NAMES, *map(variable, Settings.model_fields)}
    for name, text in values.items():
        if name in known or name.startswith(TEST_PREFIX):
            continue
        if _SERVICE_LINK.fullmatch(f"{name}={text}"):
            continue
        raise StartRefused(f"{name} ({source}) is not a setting; {_hint(name, known)}")


def _hint(name: str, known: Iterable[str]) -> str:
    # All share the prefix: compared with it, everything would look alike.
    candidates = [full.removeprefix(PREFIX) for full in known]
    nearest = difflib.get_close_matches(name.removeprefix(PREFIX), candidates, n=1)
    return f"did you mean {PREFIX}{nearest[0]}?" if nearest else "see settings.example.env"


def _sentence(error: ValidationError, given: Mapping[str, Given]) -> str:
    return "; ".join(
        _complaint(str(wrong["loc"][0]), wrong["msg"], given) for wrong in error.errors()
    )


def _complaint(name: str, reason: str, given: Mapping[str, Given]) -> str:
    reason = reason.removeprefix("Value error, ").replace("Input", "it", 1)
    if name not in Settings.model_fields:
        return f"{variable(name)} is not a setting"
    field = Settings.model_fields[name]
    text, source = given[name]
    is_secret = SecretStr in (field.annotation, *get_args(field.annotation))
    value = MASK if is_secret else repr(shown(text))
    meaning = (field.description or "").removesuffix(".")
    return f"{variable(name)}={value} ({source}) is wrong: {reason} ({meaning})"
