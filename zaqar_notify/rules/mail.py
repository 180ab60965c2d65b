"""The parts of a mail that a client chooses: one recipient, a subject, and the sender's mailbox.

Creation of a subscription and the mail sink read these by the same functions. Creation refuses a mail that
can't be sent; the sink refuses one that was stored before a rule existed.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.lines import has_control_characters

MAX_SUBJECT_CHARACTERS = 512
MAX_NAME_CHARACTERS = 128
"""Of the name before an address."""

# ASCII, one @, and nothing that could start another recipient, a header or an option of a command.
# Lengths are those of RFC 5321, 4.5.3.1.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(
    rf"(?!-)(?=[^@]{{1,64}}@.{{1,255}}\Z){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*"
)
_NAME_AND_ADDRESS = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")

# RFC 2047. Readers of mail, and libraries that write it, decode these, line breaks included.
_ENCODED_WORD = re.compile(r"=\?[^?]*\?[bq]\?", re.IGNORECASE)


class Mailbox(msgspec.Struct, frozen=True):
    """An address, with the name that is shown before it or an empty one."""

    name: str
    address: str


def is_mail_address(text: str) -> bool:
    """Whether mail can be sent to it: plain ASCII, without a name, quotes, comments or encoded words."""
    return _ADDRESS.fullmatch(text) is not None and not _ENCODED_WORD.search(text)


def recipient(uri: str) -> str:
    """The one address of a `mailto:` URI, unescaped; `mailto://user@host` is read, too.

    Raises:
        ValidationFailed: It is not one plain address.
    """
    path = uri.partition(":")[2].partition("?")[0]
    address = unquote(path.removeprefix("//"))
    if not is_mail_address(address):
        raise ValidationFailed(
            "subscriber must be mailto: and one address such as user@example.org"
        )
    return address


def uri_subject(uri: str) -> str | None:
    """The first subject in the query of a `mailto:` URI, unescaped; None when there is none.

    Raises:
        ValidationFailed: It can't be the subject of a mail.
    """
    for field in uri.partition("?")[2].split("&"):
        name, _, value = field.partition("=")
        if name.lower() == "subject":
            return check_subject(unquote(value), "subscriber: its subject")
    return None


def check_subject(subject: str, what: str = "options: subject") -> str:
    """The subject, as given, once it can stand in a mail.

    Raises:
        ValidationFailed: The sentence begins with `what`.
    """
    if len(subject) > MAX_SUBJECT_CHARACTERS:
        raise ValidationFailed(
            f"{what} has {len(subject)} characters; at most {MAX_SUBJECT_CHARACTERS} are allowed"
        )
    _check_text(subject, what)
    return subject


def read_mailbox(text: str, what: str = "options: from") -> Mailbox:
    """Read `user@example.org` or `Name <user@example.org>`.

    Raises:
        ValidationFailed: It is neither. The sentence begins with `what`.
    """
    named = _NAME_AND_ADDRESS.fullmatch(text.strip())
    name, address = named.groups() if named else ("", text.strip())
    name = name.strip(' "')
    if not is_mail_address(address):
        raise ValidationFailed(
            f"{what} must be one address such as user@example.org, or Name <user@example.org>"
        )
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValidationFailed(
            f"{what} has a name of {len(name)} characters; at most {MAX_NAME_CHARACTERS} are allowed"
        )
    _check_text(name, what)
    return Mailbox(name, address)


def _check_text(text: str, what: str) -> None:
    if has_control_characters(text):
        raise ValidationFailed(f"{what} must be one line, without control characters")
    if _ENCODED_WORD.search(text):
        raise ValidationFailed(
            f"{what} must not have encoded words (=?…?=); write the text itself, in UTF-8"
        )
