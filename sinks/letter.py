"""A delivery as a mail: its envelope, and its text as it goes out.

Headers are made of checked texts, encoded here and not parsed again: Python's own composing parses its
input, encoded words included, and folds an address by the result.
"""

from __future__ import annotations

import re
from email.contentmanager import raw_data_manager
from email.header import Header
from email.message import EmailMessage
from email.policy import Compat32
from email.utils import format_datetime
from urllib.parse import quote

import msgspec

from sinks.mail_content import Content, content_of
from zaqar_notify.delivery.links import Purpose, link_to
from zaqar_notify.models import Delivery, MessageType
from zaqar_notify.rules.mail import Mailbox, read_mailbox, recipient
from zaqar_notify.settings import Settings

# Relays need not take 8-bit text. A body stays readable for scripts while its lines fit into SMTP's.
_COMPOSING = Compat32(max_line_length=998, cte_type="7bit", mangle_from_=False)
_WRITING = _COMPOSING.clone(max_line_length=78)

_WORDS = re.compile(r"[A-Za-z0-9 '_-]*")

# Zaqar's templates: {0} is the queue, {1} the project, {2} the link; {kind}: it may be a topic.
_CONFIRMATIONS = {
    MessageType.SUBSCRIPTION_CONFIRMATION: (
        "Zaqar Notification - Subscription Confirmation",
        "You have chosen to subscribe to the {kind}: {0}. This {kind} belongs to project: {1}. "
        "To confirm this subscription, click or visit this link below: {2}",
    ),
    MessageType.UNSUBSCRIBE_CONFIRMATION: (
        "Zaqar Notification - Unsubscribe Confirmation",
        "You have unsubscribed successfully to the {kind}: {0}. This {kind} belongs to project: {1}. "
        "To resubscribe this subscription, click or visit this link below: {2}",
    ),
}


class Letter(msgspec.Struct, frozen=True):
    """A mail and its envelope. An empty `sender` leaves the choice to a sendmail command."""

    sender: str
    recipient: str
    content: EmailMessage

    def text(self, linesep: str) -> bytes:
        """The mail as it goes out, 7-bit, its lines ended as asked."""
        return self.content.as_bytes(policy=_WRITING.clone(linesep=linesep))


class _Unfolded(Header):
    """A header's value on one line: not every reader of a link puts a folded one together."""

    def encode(
        self, splitchars: str = "", maxlinelen: int | None = None, linesep: str = "\n"
    ) -> str:
        return super().encode(splitchars, 0, linesep)


class NoPage(Exception):
    """A mail asks to confirm, and no page does it."""


class _Confirmation(msgspec.Struct, frozen=True):
    """The part of a confirmation's payload that the link carries."""

    signature: str = msgspec.field(name="URL-Signature", default="")
    methods: str = msgspec.field(name="URL-Methods", default="")
    paths: str = msgspec.field(name="URL-Paths", default="")
    project: str = msgspec.field(name="X-Project-ID", default="")
    expires: str = msgspec.field(name="URL-Expires", default="")
    url: str = msgspec.field(name="WSGISubscribeURL", default="")
    queue: str = msgspec.field(name="queue_name", default="")
    page: str = msgspec.field(name="SubscribeURL", default="")
    """Our own page."""


def write_letter(delivery: Delivery, settings: Settings) -> Letter:
    """The mail for a delivery.

    Raises:
        ValidationFailed: Recipient, subject or sender can't stand in a mail.
        NoPage: It asks to confirm, and there is no page for that.
    """
    subscription = delivery.subscription
    to = recipient(subscription.subscriber)
    unsubscribe = link_to(Purpose.UNSUBSCRIBE, subscription, settings)
    asked: Mailbox | None = None
    if delivery.kind is MessageType.NOTIFICATION:
        asked = _mailbox(_text(subscription.options.get("from")))
        made = content_of(delivery, settings)
    else:
        made = _confirmation(delivery, settings.external_confirmation_url)
    own = _mailbox(settings.smtp_sender)
    may_send = asked is not None and _may_send(asked, settings)
    sender = asked if may_send else own
    content = EmailMessage(policy=_COMPOSING)
    if sender:
        content["From"] = _header(sender)
    if asked and not may_send:
        content["Reply-To"] = _header(asked)
    content["To"] = to
    content["Subject"] = Header(made.subject, _charset(made.subject), header_name="Subject")
    content["Date"] = format_datetime(delivery.sent_at)
    # The same for every try, so that a receiver can tell a repeated mail.
    content["Message-ID"] = f"<{delivery.id}@{_domain(sender)}>"
    content["Auto-Submitted"] = "auto-generated"
    if unsubscribe:
        content["List-Unsubscribe"] = _Unfolded(f"<{unsubscribe}>")
        content["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    content["Zaqar-Message-Id"] = delivery.message_id
    content["Zaqar-Subscription-Id"] = subscription.id
    content["Zaqar-Queue"] = subscription.queue.public_name
    if delivery.message.attributes is not None:
        content["Zaqar-Attributes"] = _attributes(delivery.message.attributes.decode())
    content.set_content(made.text, content_manager=raw_data_manager)
    if made.html:
        content.add_alternative(made.html, subtype="html", content_manager=raw_data_manager)
    # Bounces are the operator's.
    envelope = own or sender
    return Letter(envelope.address if envelope else "", to, content)


def _may_send(mailbox: Mailbox, settings: Settings) -> bool:
    """Whether mails may come from it: the operator lists addresses, and domains as `@example.org`."""
    address = mailbox.address.lower()
    return bool({address, "@" + _domain(mailbox).lower()} & set(settings.smtp_senders))


def _confirmation(delivery: Delivery, page: str) -> Content:
    """The subject and the text of a confirmation mail, with a link to the operator's page if there is one, else to ours.

    A project's name may be any text of its owner. It is escaped, so that it can't carry a message to the recipient.
    """
    facts = msgspec.json.decode(delivery.payload, type=_Confirmation)
    project = quote(facts.project, safe="")
    link = facts.page
    if page:
        link = (
            f"{page}?Signature={facts.signature}&Methods={facts.methods}&Paths={facts.paths}"
            f"&Project={project}&Expires={facts.expires}&Url={facts.url}&Queue={facts.queue}"
        )
    if not link:
        raise NoPage
    subject, template = _CONFIRMATIONS[delivery.kind]
    kind = "topic" if delivery.subscription.queue.is_topic else "queue"
    return Content(subject, template.format(facts.queue, project, link, kind=kind))


def _mailbox(text: str) -> Mailbox | None:
    return read_mailbox(text) if text else None


def _header(mailbox: Mailbox) -> str:
    """A mailbox as a header's value. A name that has more than words is encoded: quotes would protect a
    comma, but not in every reader of a folded header."""
    if not mailbox.name:
        return mailbox.address
    is_plain = _WORDS.fullmatch(mailbox.name) is not None
    name = mailbox.name if is_plain else Header(mailbox.name, "utf-8").encode(linesep="")
    return f"{name} <{mailbox.address}>"


def _attributes(text: str) -> Header:
    # A line of SMTP has 998 characters at most, and a long text need not have a blank to fold it at.
    charset = _charset(text) if len(text) < 900 else "utf-8"
    return Header(text, charset, header_name="Zaqar-Attributes")


def _charset(text: str) -> str:
    # Some readers take more than encoded words for encoded words.
    return "us-ascii" if text.isascii() and "=?" not in text else "utf-8"


def _domain(sender: Mailbox | None) -> str:
    return sender.address.rpartition("@")[2] if sender else "zaqar-notify"


def _text(option: object) -> str:
    return option if isinstance(option, str) else ""
