"""The way of mails, from the section [notification]."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from zaqar_notify.operations.zaqar.conf import ZaqarConf
from zaqar_notify.operations.zaqar.lines import Line, Note, Setting

SECTION = "notification"
SENDMAIL = "/usr/sbin/sendmail -t -oi"
"""Zaqar's default."""
SMTPS_PORT = "465"


def mails(conf: ZaqarConf) -> Iterator[Line]:
    """The relay or the command, as `smtp_mode` says."""
    if conf.get(SECTION, "smtp_mode", "third_part") == "self_local":
        yield from _relay(conf)
    else:
        yield from _command(conf)
    yield Note(
        "A mail's From is ZAQAR_SMTP_SENDER; the addresses that subscriptions name as `from` become Reply-To, unless "
        "ZAQAR_SMTP_SENDERS lists them"
    )


def _relay(conf: ZaqarConf) -> Iterator[Line]:
    host = conf.get(SECTION, "smtp_host")
    if not host:
        yield Note(f"[{SECTION}] smtp_host is not set: no mail can be sent")
        return
    yield Setting("smtp_host", host)
    yield Setting("smtp_port", conf.get(SECTION, "smtp_port", SMTPS_PORT))
    yield Setting("smtp_tls", "tls")
    user, password = conf.get(SECTION, "smtp_user_name"), conf.get(SECTION, "smtp_user_password")
    if user and password:
        yield Setting("smtp_username", user)
        yield Setting("smtp_password", password)
    yield Setting("smtp_sender", "Zaqar Notifications <no-reply@openstack.org>")
    yield Note("That sender is Zaqar's default: name one of your own, which gets the bounces")


def _command(conf: ZaqarConf) -> Iterator[Line]:
    try:
        words = shlex.split(conf.get(SECTION, "smtp_command", SENDMAIL))
    except ValueError:
        yield Note(f"[{SECTION}] smtp_command is no command line: set ZAQAR_SENDMAIL_COMMAND")
        return
    # The service names the recipient as the last argument; some commands would then leave it out.
    yield Setting("sendmail_command", shlex.join(word for word in words if word != "-t"))
