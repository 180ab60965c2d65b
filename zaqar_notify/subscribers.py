"""What a subscription may ask for: its subscriber's URI, its ttl and its options.

Names are not resolved here: whether their addresses may be reached is decided at each connect. What
can be told without, by the rules of the sinks, is told at once.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

import orjson
from jsonschema import Draft202012Validator

from zaqar_notify import mail
from zaqar_notify.addresses import AddressRule, forbidden, is_address
from zaqar_notify.errors import QUEUE_NAME_RULE, ValidationFailed
from zaqar_notify.jsontext import check_depth, check_integers
from zaqar_notify.lines import has_control_characters
from zaqar_notify.models import Document
from zaqar_notify.names import is_queue_name
from zaqar_notify.retry import POLICY_KEY, parse_policy
from zaqar_notify.settings import Settings
from zaqar_notify.unread import Warn, warn_of_keys, warn_of_policy
from zaqar_notify.urls import read_url

MAX_SUBSCRIBER_CHARACTERS = 2048
MAX_OPTIONS_BYTES = 65536
MAX_POST_HEADERS_CHARACTERS = 8192
MAX_POST_HEADERS = 256
MIN_TTL_SECONDS = 60

_LAST_INSTANT = datetime.max.replace(tzinfo=UTC)

_ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"

_IDENTITY_HEADERS = re.compile(
    # Zaqar's own, and those of pre-signed URLs.
    r"client-id|url-.*"
    # What keystonemiddleware tells the service behind it.
    r"|x-(project|tenant|domain)(-id|-name|-domain.*)?|x-(user|role|service|identity|is-admin).*"
    r"|openstack-system-scope"
    # What proxies tell of a client that they have checked, and of its request.
    r"|forwarded|x-forwarded.*|x-real-ip|x-client-(cert|dn|ip|verify).*|(x-)?ssl-client.*"
    r"|x-original-.*|x-rewrite-.*|(x-)?remote-.*|x-auth-request-.*|x-authenticated-.*|x-webauth-.*"
    r"|x-amzn-oidc-.*|x-ms-client-principal.*|x-goog-(authenticated|iap).*|cf-access-authenticated.*"
    r"|tailscale-user.*|x-consumer-.*|x-credential-identifier|x-anonymous-consumer|x-vouch-.*"
    r"|(true|x-cluster|fastly)-client-ip|cf-connecting-ip.*"
)
"""Headers that tell a service behind a proxy who asks, for which project, from where. A subscriber
may be such a service, and take our word for them."""

KEPT_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "zaqar-attempt",
        "zaqar-hops",
        "zaqar-installation",
        "zaqar-message-id",
        "zaqar-queue",
        "zaqar-subscription-id",
    }
)
"""What `post_headers` may have and can't set: what frames or routes the request, what we vouch for."""

OPTION_KEYS = (POLICY_KEY, "post_headers", "post_data", "from", "subject", "trust_id")

OPTIONS_SCHEMA: Document = {
    "type": "object",
    "properties": {
        "post_headers": {
            "type": ["object", "null"],
            "must": "be an object of strings",
            "propertyNames": {
                # RFC 9110, "token".
                "pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z",
                "must": "have names of HTTP headers only",
            },
            "additionalProperties": {
                "type": "string",
                "pattern": _ONE_LINE,
                "must": "be a string without line breaks and control characters",
            },
        },
        "post_data": {"type": ["string", "null"], "must": "be a string"},
        "from": {
            "type": ["string", "null"],
            "pattern": _ONE_LINE,
            "must": "be a string of one line",
        },
        "subject": {
            "type": ["string", "null"],
            "pattern": _ONE_LINE,
            "must": "be a string of one line",
        },
    },
}
"""The options that deliveries read. `must` is what the sentence about a fault says."""

_options = Draft202012Validator(OPTIONS_SCHEMA)


def subscribed_queue(uri: str) -> str | None:
    """The name of the queue that a subscriber is; None: it is something else."""
    scheme, _, name = uri.partition(":")
    return name if scheme.lower() == "queue" else None


def check_subscriber(uri: object, settings: Settings) -> str:
    """The subscriber's URI, as given, once deliveries to it can be tried.

    Raises:
        ValidationFailed: Says which part is wrong, or which setting is missing for its scheme.
    """
    if not isinstance(uri, str) or not uri:
        raise ValidationFailed("subscriber must be a URI, a string that is not empty")
    if len(uri) > MAX_SUBSCRIBER_CHARACTERS:
        raise ValidationFailed(
            f"subscriber has {len(uri)} characters; at most {MAX_SUBSCRIBER_CHARACTERS} are allowed"
        )
    if has_control_characters(uri):
        raise ValidationFailed("subscriber must not contain control characters")
    scheme = uri.partition(":")[0].lower() if ":" in uri else ""
    if scheme not in settings.subscriber_types:
        raise ValidationFailed(
            f"subscriber must be a URI with one of the schemes {', '.join(settings.subscriber_types)}"
        )
    if scheme == "mailto":
        _check_mail(uri, settings)
    elif scheme == "queue":
        _check_queue(uri)
    elif scheme.removeprefix("trust+") in ("http", "https"):
        _check_web(uri[uri.lower().index("http") :], settings)
    return uri


def shown_subscriber(uri: str) -> str:
    """A subscriber as logs and lists may show it: its scheme and its host, or its queue.

    Paths, queries, users and mailboxes often are credentials, or name people.
    """
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if scheme == "queue":
        return uri
    if scheme == "mailto":
        return f"mailto:@{unquote(rest.partition('?')[0]).rpartition('@')[2]}"
    try:
        host = urlsplit(uri).hostname or ""
    except ValueError:
        host = ""
    return f"{scheme}://{host}"


def check_ttl(value: object, settings: Settings, now: datetime) -> int:
    """The subscription's ttl, seconds; null means the default.

    There is no upper limit but the calendar's: Heat asks for 6983 years.
    """
    if value is None:
        return settings.default_subscription_ttl
    longest = (_LAST_INSTANT - now) // timedelta(seconds=1)
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not MIN_TTL_SECONDS <= value <= longest
    ):
        raise ValidationFailed(
            f"ttl must be an integer of at least {MIN_TTL_SECONDS} seconds, "
            f"and end before the year 10000 (at most {longest} seconds)"
        )
    return value


def check_options(value: object) -> Document:
    """The subscription's options; null and other falsy values mean none.

    Only the keys that deliveries use are checked; the others are kept for their owner.
    """
    if not value:
        return {}
    if not isinstance(value, dict):
        raise ValidationFailed("options must be an object")
    check_depth(value)
    check_integers(value)
    size = len(orjson.dumps(value))
    if size > MAX_OPTIONS_BYTES:
        raise ValidationFailed(
            f"options has {size} bytes as JSON; at most {MAX_OPTIONS_BYTES} bytes are allowed"
        )
    parse_policy(value.get(POLICY_KEY))
    _check_headers_length(value.get("post_headers"))
    for fault in _options.iter_errors(value):
        place = " ".join(str(step)[:80] for step in fault.absolute_path)
        raise ValidationFailed(f"options: {place} must {fault.schema['must']}")
    _check_headers(value.get("post_headers"))
    _check_mail_options(value)
    return value


def warn_of_options(options: Document, warn: Warn) -> None:
    """Say which of the options have no effect."""
    warn_of_keys(options, OPTION_KEYS, where="options:", warn=warn)
    warn_of_policy(options, warn=warn)
    headers = options.get("post_headers")
    for name in headers if isinstance(headers, dict) else ():
        if header_key(name) in KEPT_HEADERS:
            warn(f"options: post_headers {name} has no effect: it is the service's to set")


def header_key(name: str) -> str:
    """What servers may take a header's name for: CGI and WSGI know no case and but one separator."""
    return re.sub(r"[^0-9a-z]", "-", name.lower())


def is_identity_header(name: str) -> bool:
    """Whether a service behind a proxy would read from it who asks; `post_headers` must not say."""
    return _IDENTITY_HEADERS.fullmatch(header_key(name)) is not None


def _check_headers(headers: object) -> None:
    if not isinstance(headers, dict):
        return
    for name in headers:
        if is_identity_header(name):
            raise ValidationFailed(
                f"options: post_headers must not have {name[:80]!r}: services behind a proxy read "
                "from it who asks. To prove who you are, send Authorization or X-Auth-Token"
            )


def _check_headers_length(headers: object) -> None:
    """Before each is looked at: the schema takes its time over thousands of them."""
    if not isinstance(headers, dict):
        return
    characters = sum(
        len(name) + len(text) if isinstance(text, str) else len(name)
        for name, text in headers.items()
    )
    if characters > MAX_POST_HEADERS_CHARACTERS:
        raise ValidationFailed(
            f"options: post_headers have {characters} characters; "
            f"at most {MAX_POST_HEADERS_CHARACTERS} are allowed"
        )
    if len(headers) > MAX_POST_HEADERS:
        raise ValidationFailed(
            f"options: post_headers are {len(headers)}; at most {MAX_POST_HEADERS} are allowed"
        )


def missing_for_mail(settings: Settings) -> str:
    """What an operator has to set before mail can be sent; "" when nothing is missing."""
    if settings.sendmail_command:
        return ""
    if not settings.smtp_host:
        return "mail is off: neither ZAQAR_SMTP_HOST nor ZAQAR_SENDMAIL_COMMAND is set"
    return "" if settings.smtp_sender else "mail is off: ZAQAR_SMTP_SENDER is not set"


def _check_mail(uri: str, settings: Settings) -> None:
    missing = missing_for_mail(settings)
    if missing:
        raise ValidationFailed(f"subscriber can't be mailto: {missing}")
    mail.recipient(uri)
    mail.uri_subject(uri)


def _check_mail_options(options: Document) -> None:
    """Whatever the subscriber: a change of it does not look at the options again."""
    if options.get("from"):
        mail.read_mailbox(options["from"])
    if options.get("subject"):
        mail.check_subject(options["subject"])


def _check_queue(uri: str) -> None:
    if not is_queue_name(uri.partition(":")[2]):
        raise ValidationFailed(f"subscriber must be queue: and a queue name, {QUEUE_NAME_RULE}")


def _check_web(uri: str, settings: Settings) -> None:
    url = read_url(uri)
    rule = AddressRule(allow=settings.delivery_allow, deny=settings.delivery_deny)
    if is_address(url.host) and not rule.permits_text(url.host):
        raise ValidationFailed(f"subscriber: {forbidden(url.host)}")
