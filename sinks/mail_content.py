"""The content of a notification's mail: the subject, the text, and beside it HTML if the subscription asks for it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import msgspec

from zaqar_notify.delivery.forms import CannotForm, filled, form_of, post_data_of
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Delivery
from zaqar_notify.rules.lines import CONTROL_CHARACTERS
from zaqar_notify.rules.mail import MAX_SUBJECT_CHARACTERS, check_subject, uri_subject
from zaqar_notify.rules.placeholders import OPEN
from zaqar_notify.settings import Settings

SUBJECT, HTML = "subject", "html"


class Content(msgspec.Struct, frozen=True):
    """`html` is empty: the mail is of text alone."""

    subject: str
    text: str
    html: str = ""


def content_of(delivery: Delivery, settings: Settings) -> Content:
    """The content that the subscription asks for.

    Raises:
        ValidationFailed: It can't stand in a mail, or a template makes too much.
    """

    def fill(option: str, *, quote: Callable[[str], str] | None = None) -> str:
        """The text of an option, with its placeholders filled."""
        text = delivery.subscription.options.get(option)
        if not isinstance(text, str) or OPEN not in text:
            return text if isinstance(text, str) else ""
        return filled(delivery, option, settings, quote=quote).body.decode(errors="replace")

    try:
        text = post_data_of(delivery, settings)
        if text is None:
            text = form_of(delivery, settings).body
        subject = uri_subject(delivery.subscription.subscriber)
        if subject is None:
            subject = _subject(delivery, fill)
        return Content(subject, text.decode(errors="replace"), fill(HTML, quote=escape))
    except CannotForm as error:
        raise ValidationFailed(str(error)) from error


def _subject(delivery: Delivery, fill: Callable[[str], str]) -> str:
    """The subject of the options. Values that are put into it may have any text, so it is made one line."""
    written = delivery.subscription.options.get(SUBJECT)
    if not isinstance(written, str):
        return ""
    check_subject(written)
    try:
        words = CONTROL_CHARACTERS.sub(" ", fill(SUBJECT)).split()
    except CannotForm:  # Stored before subjects were templates.
        return written
    return written if OPEN not in written else " ".join(words)[:MAX_SUBJECT_CHARACTERS]
