"""The settings of notifications: subscribers, deliveries, mail, security."""

from __future__ import annotations

import shlex
from functools import cached_property
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.encryption import Keyring, parse_keys
from zaqar_notify.rules.mail import is_mail_address, read_mailbox
from zaqar_notify.rules.proxies import read_proxy
from zaqar_notify.settings.section import (
    Count,
    LeastMinute,
    Needs,
    Networks,
    Port,
    Ports,
    Seconds,
    Secrets,
    Section,
    Words,
)


class SubscriptionSettings(Section):
    """The subscribers that are permitted, and their confirmation."""

    title = "Subscriptions"

    default_subscription_ttl: LeastMinute = Field(
        3600, description="Life of a subscription made without ttl, seconds."
    )
    subscriber_types: Words = Field(
        ("http", "https", "mailto", "queue", "trust+http", "trust+https", "websocket"),
        description="URI schemes that a subscriber may have, comma separated; packages can add kinds of subscribers.",
    )
    require_confirmation: bool = Field(
        False, description="Notify only subscribers that confirmed; needs signed URL secrets."
    )
    external_confirmation_url: str = Field(
        "",
        description="Page of your own that confirmation mails link to; empty: that of this service, below ZAQAR_PUBLIC_URL.",
    )


class DeliverySettings(Section):
    """Tries to deliver messages to subscribers, and the retries."""

    title = "Delivery"

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
        5,
        description="Failures in a row after which a subscriber is left alone, and then probed by one process at a time.",
    )
    delivery_lease_seconds: Count = Field(
        12,
        description="Lease of a worker on the deliveries it works on, seconds; renewed meanwhile. The deliveries of a dead worker go on after it.",
    )
    delivery_max_age_seconds: Count = Field(
        604800,
        description="How long a delivery is owed at most before it is given up, seconds.",
    )
    disable_after_failing_seconds: Count = Field(
        432000,
        description="A subscription is disabled, and its deliveries are held, when all its attempts have failed for so long, seconds; 0: never.",
    )
    delivery_max_hops: Count = Field(
        4, description="Most queues that a message may cross by queue subscriptions."
    )
    delivery_partitions: Count = Field(
        1, description="Parts that owed deliveries are split into; workers share them out."
    )
    delivery_log: Literal["all", "failures"] = Field(
        "failures",
        description="Attempts that the delivery log keeps: all, or those that failed, and the successes after them.",
    )
    delivery_log_seconds: LeastMinute = Field(
        604800, description="How long the delivery log keeps an attempt, seconds."
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


class MailSettings(Section):
    """The way of mails to `mailto:` subscribers: a relay, or a sendmail command."""

    title = "Mail"
    needs: ClassVar[Needs] = (
        ("smtp_host", ("smtp_sender", "sendmail_command")),
        ("smtp_sender", ("smtp_host", "sendmail_command")),
        ("smtp_senders", ("smtp_host", "sendmail_command")),
        ("smtp_username", ("smtp_host",)),
        ("smtp_username", ("smtp_password",)),
        ("smtp_password", ("smtp_username",)),
    )

    smtp_host: str = Field(
        "",
        description="Mail relay; without one (and without a sendmail command) mailto: subscribers are refused.",
    )
    smtp_port: Port = Field(25, description="Port of the mail relay.")
    smtp_sender: str = Field(
        "",
        description="Sender of all mails, which gets the bounces: ADDRESS or NAME <ADDRESS>; a mail relay needs one.",
    )
    smtp_senders: Words = Field(
        (),
        description="Further senders that a subscription may ask for (options.from): addresses, and @DOMAIN for all of a domain, comma separated. Another mailbox becomes Reply-To.",
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


class SecuritySettings(Section):
    """Keys, and the networks that deliveries may reach."""

    title = "Security"
    needs: ClassVar[Needs] = (("delivery_proxy_except", ("delivery_proxy",)),)

    signed_url_secrets: Secrets = Field(
        (), description="Keys of pre-signed URLs, comma separated; the first signs, all verify."
    )
    signed_url_max_seconds: Seconds = Field(
        0,
        description="Longest life of a pre-signed URL, seconds; 0: no limit. Links that confirm a subscription live as long as the subscription.",
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Master key from which each subscription's webhook signing secret is derived.",
    )
    webhook_secret_overlap_seconds: Seconds = Field(
        86400,
        description="How long a rotated signing secret still signs beside the new one, seconds, unless the rotation says so.",
    )
    encryption_keys: Secrets = Field(
        (),
        description="Keys that encrypt in the store: messages of queues with _enable_encrypt_messages, all deliveries that wait, subscribers and their options. ID:BASE64 of 32 bytes each, comma separated; the first encrypts, all decrypt. Keep them as long as a backup needs them.",
    )
    delivery_allow: Networks = Field(
        (),
        description="Networks (CIDR, comma separated) that deliveries may reach although they are not public.",
    )
    delivery_deny: Networks = Field(
        (),
        description="Networks (CIDR, comma separated) that deliveries may never reach; wins over allow.",
    )
    delivery_ports: Ports = Field(
        (),
        description="The only ports that deliveries may reach, comma separated, ranges such as 8000-8999 among them; empty: all.",
    )
    delivery_proxy: SecretStr = Field(
        SecretStr(""),
        description="HTTP proxy for webhooks, http://HOST:PORT or http://USER:PASSWORD@HOST:PORT; the addresses are found and judged here, and the proxy is told addresses only.",
    )
    delivery_proxy_except: Networks = Field(
        (),
        description="Networks (CIDR, comma separated) that webhooks reach without the proxy.",
    )

    @field_validator("delivery_proxy")
    @classmethod
    def _is_proxy(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            read_proxy(value.get_secret_value())
        return value

    @field_validator("encryption_keys")
    @classmethod
    def _are_keys(cls, value: Secrets) -> Secrets:
        parse_keys([word.get_secret_value() for word in value])
        return value

    @cached_property
    def keyring(self) -> Keyring:
        """The keys of `encryption_keys`."""
        return parse_keys([word.get_secret_value() for word in self.encryption_keys])
