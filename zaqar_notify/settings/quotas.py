"""The settings of quotas: the most that one project may have and do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zaqar_notify.rules.quotas import MOST
from zaqar_notify.settings.section import Count, Section

Quota = Annotated[int, Field(ge=0, le=MOST)]
"""0: no limit."""


class QuotaSettings(Section):
    """The most that one project may have and do. 0: no limit. `zaqar-notify up` has no limit that is not set. `zaqar-notify quota set` gives a project its own values."""

    title = "Quotas"

    quota_queues: Quota = Field(10_000, description="Most queues of a project.")
    quota_subscriptions: Quota = Field(10_000, description="Most subscriptions of a project.")
    quota_subscriptions_per_queue: Quota = Field(
        5_000, description="Most subscriptions of one queue."
    )
    quota_stored_bytes: Quota = Field(
        10_737_418_240,
        description="Most bytes of bodies of a project: of its messages, and of deliveries that wait or were given up.",
    )
    quota_messages_per_second: Quota = Field(
        10_000, description="Most messages that a project posts per second to the API of one host."
    )
    quota_requests_per_second: Quota = Field(
        2_000, description="Most requests of a project per second to the API of one host."
    )
    quota_long_polls: Quota = Field(
        1_000, description="Most long polls of a project that wait at once in one API process."
    )
    quota_deliveries: Quota = Field(
        0,
        description="Most deliveries of a project under way at once in one process that delivers; its fair share of ZAQAR_DELIVERY_CONCURRENCY bounds them, too.",
    )
    quota_mails_per_minute: Quota = Field(
        1_000,
        description="Most mails of a project per minute in one process that delivers; further ones wait.",
    )
    quota_burst_seconds: Count = Field(
        5,
        description="A project that was idle may use up the messages and requests of so many seconds at once.",
    )
    rate_status: Literal["503", "429"] = Field(
        "503",
        description="Status of an answer to a project that is over a rate. 429 only if no client is python-zaqarclient: it takes 429 for success.",
    )
