"""The settings of authentication: the callers that a process believes."""

from __future__ import annotations

from pydantic import Field, field_validator

from zaqar_notify.settings.section import Section, Words

AUTH_KINDS = ("none", "token", "keystone")
AUTH_NONE = ("none",)
"""The value of `auth` with which every caller is believed."""
AUTH_TOKEN = ("token",)


class AuthenticationSettings(Section):
    """The callers that are believed. The shipped default asks for a token wherever others can reach the service."""

    title = "Authentication"

    auth: Words = Field(
        (),
        description="none (alone): every caller is believed. token: tenant tokens (zaqar-notify token create). keystone: Keystone's tokens. Empty: none on loopback addresses, else token.",
    )
    trust_proxy: bool = Field(
        False,
        description="With none: only a proxy reaches the service, and it sets X-Project-ID, X-Roles and X-User-Id of every request, or removes them. Needed for none on an address that is not loopback.",
    )
    default_project: str = Field(
        "",
        description="With none: the project of requests without X-Project-ID; empty: they are refused.",
    )

    @field_validator("auth")
    @classmethod
    def _are_kinds(cls, value: Words) -> Words:
        for word in value:
            if word not in AUTH_KINDS:
                raise ValueError(f"{word!r} is none of {', '.join(AUTH_KINDS)}")
        if "none" in value and len(set(value)) > 1:
            raise ValueError("none stands alone")
        return tuple(dict.fromkeys(value))
