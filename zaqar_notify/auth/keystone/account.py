"""The service's account in Keystone: from settings, or from an OpenStack service's configuration file."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

import msgspec

from zaqar_notify.errors import StartRefused
from zaqar_notify.models import JsonObject, undisclosed
from zaqar_notify.settings import Settings, shown
from zaqar_notify.settings.conf_file import is_true, read_conf, words_of

SECTION = "keystone_authtoken"
DEFAULT_DOMAIN = "Default"
DEFAULT_PROJECT = "service"
DEFAULT_SERVICE_ROLES = ("service",)

_PASSWORD = frozenset({"password", "v3password"})
_CREDENTIAL = "v3applicationcredential"
_VERSION = re.compile(r"/v(2\.0|3)$")

Options = Mapping[str, str]
"""The options of a section, by name."""


class Account(msgspec.Struct, frozen=True):
    """Keystone's address, and the account that the service has there."""

    url: str
    """It ends in `/v3`."""
    public_url: str
    """The address that clients are told."""
    login: JsonObject
    """The value of `auth` in a request for a token."""
    tls: ssl.SSLContext | bool
    """True: the system's certificates."""
    service_roles: frozenset[str]
    """A token in `X-Service-Token` counts if it has one of them."""
    is_service_role_required: bool

    __repr__ = undisclosed

    @property
    def has_password(self) -> bool:
        """An application credential can't get tokens of trusts."""
        return "password" in self.login["identity"]


def read_account(settings: Settings) -> Account:
    """The account that the settings name.

    Raises:
        StartRefused: Something is missing, or the file can't be read; the sentence names the setting.
    """
    options = _section_of(settings.keystone_conf) if settings.keystone_conf else {}
    url = settings.keystone_url or _auth_url(options)
    if not url:
        raise StartRefused(
            "ZAQAR_KEYSTONE_URL is missing: it is Keystone's address, e.g. https://HOST:5000"
        )
    # Clients read the address in the answer 401: it must have no password.
    if not re.fullmatch(r"https?://[^/?#@\s]+[^?#@\s]*", url):
        raise StartRefused(f"ZAQAR_KEYSTONE_URL={shown(url)!r} must be like https://HOST:5000")
    base = _VERSION.sub("", url.rstrip("/"))
    roles = settings.keystone_service_roles or words_of(options.get("service_token_roles", ""))
    return Account(
        url=f"{base}/v3",
        public_url=options.get("www_authenticate_uri") or options.get("auth_uri") or base,
        login=_login_of_settings(settings) or _login_of_section(options),
        tls=_tls(settings, options),
        service_roles=frozenset(roles or DEFAULT_SERVICE_ROLES),
        is_service_role_required=is_true(options.get("service_token_roles_required", "true")),
    )


def _login_of_settings(settings: Settings) -> JsonObject | None:
    if settings.keystone_application_credential_id:
        secret = settings.keystone_application_credential_secret.get_secret_value()
        return _by_credential({"id": settings.keystone_application_credential_id, "secret": secret})
    if not settings.keystone_username:
        return None
    domain = {"name": settings.keystone_domain or DEFAULT_DOMAIN}
    user = {
        "name": settings.keystone_username,
        "domain": domain,
        "password": settings.keystone_password.get_secret_value(),
    }
    own_domain = settings.keystone_project_domain
    project = {
        "name": settings.keystone_project or DEFAULT_PROJECT,
        "domain": {"name": own_domain} if own_domain else domain,
    }
    return _by_password(user, {"project": project})


def _login_of_section(options: Options) -> JsonObject:
    kind = options.get("auth_type") or options.get("auth_plugin") or "password"
    if kind == _CREDENTIAL:
        given: JsonObject = {"secret": _required(options, "application_credential_secret")}
        if "application_credential_id" in options:
            return _by_credential(given | {"id": options["application_credential_id"]})
        name = _required(options, "application_credential_name")
        return _by_credential(given | {"name": name, "user": _user(options)})
    if kind not in _PASSWORD:
        raise StartRefused(
            f"ZAQAR_KEYSTONE_CONF: auth_type is {kind!r}; here it may be password or {_CREDENTIAL}"
        )
    return _by_password(
        _user(options) | {"password": _required(options, "password")}, _scope(options)
    )


def _by_password(user: JsonObject, scope: JsonObject) -> JsonObject:
    return {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}


def _by_credential(credential: JsonObject) -> JsonObject:
    return {
        "identity": {"methods": ["application_credential"], "application_credential": credential}
    }


def _user(options: Options) -> JsonObject:
    if "user_id" in options:
        return {"id": options["user_id"]}
    name = options.get("user_name") or _required(options, "username")
    return {"name": name, "domain": _domain(options, "user")}


def _scope(options: Options) -> JsonObject:
    if options.get("system_scope") == "all":
        return {"system": {"all": True}}
    project_id = options.get("project_id") or options.get("tenant_id")
    if project_id:
        return {"project": {"id": project_id}}
    name = options.get("tenant_name") or _required(options, "project_name")
    return {"project": {"name": name, "domain": _domain(options, "project")}}


def _domain(options: Options, owner: str) -> JsonObject:
    for kind in ("id", "name"):
        given = options.get(f"{owner}_domain_{kind}") or options.get(f"default_domain_{kind}")
        if given:
            return {kind: given}
    return {"name": DEFAULT_DOMAIN}


def _required(options: Options, name: str) -> str:
    if not options.get(name):
        raise StartRefused(
            f"The service has no account in Keystone: set ZAQAR_KEYSTONE_USERNAME and ZAQAR_KEYSTONE_PASSWORD, "
            f"or an application credential, or {name} in the section [{SECTION}] of ZAQAR_KEYSTONE_CONF"
        )
    return options[name]


def _auth_url(options: Options) -> str:
    return options.get("auth_url", "")


def _section_of(path: str) -> Options:
    """The options of the section, or of the one that it names as `auth_section`."""
    sections = read_conf(path, given_as="ZAQAR_KEYSTONE_CONF")
    if SECTION not in sections:
        raise StartRefused(f"ZAQAR_KEYSTONE_CONF={path!r} has no section [{SECTION}]")
    own = sections[SECTION]
    return {**own, **sections.get(own.get("auth_section", ""), {})}


def _tls(settings: Settings, options: Options) -> ssl.SSLContext | bool:
    if is_true(options.get("insecure", "false")):
        # The file's operator asks for it.
        return False
    ca_file = settings.keystone_ca_file or options.get("cafile") or None
    certificate = options.get("certfile") or None
    if not ca_file and not certificate:
        return True
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate:
            context.load_cert_chain(certificate, options.get("keyfile") or None)
    except (OSError, ssl.SSLError) as error:
        raise StartRefused(
            f"ZAQAR_KEYSTONE_CA_FILE={ca_file or ''!r} or the files of ZAQAR_KEYSTONE_CONF can't be used: {error}"
        ) from error
    return context
