"""The settings of the policy: what callers may do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zaqar_notify.settings.section import Section


class PolicySettings(Section):
    """The policy says which roles may do what; `zaqar-notify policy list` prints its rules."""

    title = "Policy"

    policy_file: str = Field(
        "",
        description="Path of an OpenStack policy file, YAML or JSON, whose rules replace the defaults; it is read again when it changes.",
    )
    policy_defaults: Literal["zaqar", "strict"] = Field(
        "zaqar",
        description="zaqar: everyone of a project may use it, as with Zaqar. strict: reader may read, member may write, admin administers.",
    )
