"""The settings of the Keystone that validates tokens, and of the service's own account there."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, SecretStr

from zaqar_notify.settings.section import Needs, Seconds, Section, Words


class KeystoneSettings(Section):
    """An OpenStack cloud's Keystone validates tokens; the service has an account of its own there."""

    title = "Keystone"
    needs: ClassVar[Needs] = (
        ("keystone_username", ("keystone_password",)),
        ("keystone_password", ("keystone_username",)),
        ("keystone_application_credential_id", ("keystone_application_credential_secret",)),
        ("keystone_application_credential_secret", ("keystone_application_credential_id",)),
    )

    keystone_url: str = Field(
        "", description="Keystone's address, with or without /v3, e.g. https://HOST:5000."
    )
    keystone_username: str = Field("", description="Name of the service's user.")
    keystone_password: SecretStr = Field(
        SecretStr(""), description="Password of the service's user."
    )
    keystone_project: str = Field(
        "", description="Name of the project of the service's user; empty: service."
    )
    keystone_domain: str = Field(
        "", description="Name of the domain of the service's user; empty: Default."
    )
    keystone_project_domain: str = Field(
        "", description="Name of the domain of the service's project; empty: the user's."
    )
    keystone_application_credential_id: str = Field(
        "",
        description="Id of an application credential, in place of the name, password and project of the service's user.",
    )
    keystone_application_credential_secret: SecretStr = Field(
        SecretStr(""), description="Secret of the application credential."
    )
    keystone_conf: str = Field(
        "",
        description="A configuration file with a section [keystone_authtoken]; the settings of this table win over it.",
    )
    keystone_ca_file: str = Field(
        "", description="PEM file of the authorities to trust for Keystone; empty: the system's."
    )
    keystone_cache_seconds: Seconds = Field(
        60,
        description="How long a validated token is believed without asking again, seconds; a revoked one stops within this time.",
    )
    keystone_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        5, description="Longest wait for an answer of Keystone, seconds."
    )
    keystone_service_roles: Words = Field(
        (),
        description="Roles, comma separated, one of which a token in X-Service-Token must have; empty: service.",
    )
    trust_targets: Words = Field(
        (),
        description="Addresses, comma separated, that trust+ subscribers may have beside those in Keystone's catalogue: http(s)://HOST:PORT/PATH, and all below it.",
    )
