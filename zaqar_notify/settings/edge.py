"""The settings of the way between clients and the service: browsers and TLS."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, field_validator

from zaqar_notify.settings.section import Needs, Section, Words

ANY_ORIGIN = "*"

# As browsers send it: in lower case, without a path, a user and a port that the scheme implies.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?")
_IMPLIED_PORTS = (("http://", ":80"), ("https://", ":443"))


class EdgeSettings(Section):
    """Clients in browsers, and HTTPS without a proxy."""

    title = "Browsers and TLS"
    needs: ClassVar[Needs] = (
        ("tls_cert_file", ("tls_key_file",)),
        ("tls_key_file", ("tls_cert_file",)),
    )

    cors_origins: Words = Field(
        (),
        description="Origins (https://HOST:PORT, comma separated) whose pages may call the API from a browser; * for any; empty: none.",
    )

    tls_cert_file: str = Field(
        "",
        description="PEM file of the certificate and its chain: up and api then serve HTTPS only; read again on SIGHUP.",
    )
    tls_key_file: str = Field(
        "", description="PEM file of the certificate's private key, without a password."
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: Words) -> Words:
        if ANY_ORIGIN in value and len(value) > 1:
            raise ValueError("* stands for every origin: name * alone, or the origins without it")
        for origin in value:
            if origin != ANY_ORIGIN and not _is_origin(origin):
                raise ValueError(
                    f"{origin!r} is no origin as browsers send it: https://HOST or https://HOST:PORT, "
                    "in lower case, without a path, and without the scheme's own port"
                )
        return value


def _is_origin(text: str) -> bool:
    has_implied_port = any(
        text.startswith(scheme) and text.endswith(port) for scheme, port in _IMPLIED_PORTS
    )
    return _ORIGIN.fullmatch(text) is not None and not has_implied_port
