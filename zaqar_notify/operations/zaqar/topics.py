"""Zaqar's options, topic by topic, as settings of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zaqar_notify.auth.keystone.account import read_account
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.zaqar.conf import DEFAULT, ZaqarConf
from zaqar_notify.operations.zaqar.lines import Line, Note, Setting
from zaqar_notify.operations.zaqar.options import KEYSTONE, SAME, WEBSOCKET
from zaqar_notify.settings import Settings

WEBSOCKET_KIND = "websocket"
NOTIFIER = "zaqar.notification.notifier"
_ACCOUNT = (
    "auth_url",
    "username",
    "user_id",
    "user_domain_name",
    "user_domain_id",
)


def same(conf: ZaqarConf) -> Iterator[Line]:
    """Options with the name and the meaning that a setting has."""
    for option in SAME:
        if text := conf.get(*option):
            yield Setting(option.name, text)


def versions(conf: ZaqarConf) -> Iterator[Line]:
    """Versions of the API beside 2; the option is that of former releases."""
    former = conf.words(DEFAULT, "enable_deprecated_api_versions")
    if former:
        names = ["v2", *(f"v{word}" for word in ("1.1", "1") if word in former)]
        yield Setting("versions", ",".join(names))


def authentication(conf: ZaqarConf) -> Iterator[Line]:
    """The callers that are believed, and the service's account in Keystone."""
    strategy = conf.get(DEFAULT, "auth_strategy")
    if not strategy:
        yield Setting("auth", "none")
        yield Note(
            "auth_strategy is empty: everybody who reaches the port can be any project. On an address that is not "
            "loopback the service refuses to start so. If only a proxy that names the project reaches the port, add "
            "ZAQAR_TRUST_PROXY=true; else set ZAQAR_AUTH=token"
        )
        return
    if strategy != "keystone":
        yield Note("auth_strategy is none that the service knows: it can be Keystone's, or empty")
        return
    yield Setting("auth", "keystone")
    yield Setting("keystone_conf", str(conf.path))
    yield Note(
        f"[{KEYSTONE}] is read from there: keep the file, or set ZAQAR_KEYSTONE_URL and others instead."
    )
    try:
        read_account(Settings(keystone_conf=str(conf.path)))
    except StartRefused as error:
        yield Note(f"The service would refuse to start: {error}")
    yield from _trustee(conf)


def _trustee(conf: ZaqarConf) -> Iterator[Line]:
    differing = [
        name
        for name in _ACCOUNT
        if conf.get("trustee", name) and conf.get("trustee", name) != conf.get(KEYSTONE, name)
    ]
    if differing:
        yield Note(
            f"[trustee] differs from [{KEYSTONE}] in {', '.join(differing)}: the service has one account. Trusts of "
            "imported trust+ subscriptions are good for the account of [trustee] only; give that account the right to "
            f"validate tokens, and use it in [{KEYSTONE}]"
        )


def signed_urls(conf: ZaqarConf) -> Iterator[Line]:
    """The key of pre-signed URLs: with it, URLs that Zaqar signed stay good."""
    key = conf.get("signed_url", "secret_key")
    if not key:
        yield Note(
            "[signed_url] secret_key is not set: a cluster signs no URL until ZAQAR_SIGNED_URL_SECRETS is."
        )
    elif "," in key or key != key.strip():
        yield Note(
            "[signed_url] secret_key has a comma, and ZAQAR_SIGNED_URL_SECRETS is a list: set another key. URLs that "
            "Zaqar signed end then"
        )
    else:
        yield Setting("signed_url_secrets", key)


def subscribers(conf: ZaqarConf) -> Iterator[Line]:
    """The permitted kinds. Those of the WebSocket are always permitted in Zaqar."""
    kinds = conf.words("transport", "subscriber_types")
    if kinds:
        yield Setting("subscriber_types", ",".join([*kinds, WEBSOCKET_KIND]))
        yield Note(
            f"{WEBSOCKET_KIND} is for subscriptions of WebSocket clients; queue would be for other queues."
        )


def websocket(conf: ZaqarConf) -> Iterator[Line]:
    """Zaqar's WebSocket is a server of its own."""
    port = conf.get(WEBSOCKET, "port")
    if port or conf.get("drivers", "transport") == "websocket":
        yield Setting("websocket_port", port or "9000")
        yield Note("Without it, the WebSocket is on the API's port alone.")
    if conf.get(WEBSOCKET, "external_port"):
        yield Note(
            "external-port: ZAQAR_WEBSOCKET_URL is the WebSocket's address as clients see it"
        )


def notifications(conf: ZaqarConf) -> Iterator[Line]:
    """The pipeline, and the policy of retries."""
    stages = conf.words("storage", "message_pipeline")
    if NOTIFIER not in stages:
        yield Note(
            f"[storage] message_pipeline lacks {NOTIFIER}, so this Zaqar notifies no subscriber. The service does: "
            "subscriptions that are imported get deliveries from then on"
        )
    if others := [stage for stage in stages if stage != NOTIFIER]:
        yield Note(
            f"[storage] message_pipeline has stages that the service lacks: {', '.join(others)}"
        )
    yield Note(
        "Retries last three days by default; ZAQAR_RETRY_DEFAULT=zaqar has Zaqar's schedule. Receivers with private "
        "addresses need ZAQAR_DELIVERY_ALLOW."
    )


def browsers(conf: ZaqarConf) -> Iterator[Line]:
    """Origins whose pages may call the API."""
    origins = conf.words("cors", "allowed_origin")
    if origins:
        yield Setting("cors_origins", "*" if "*" in origins else ",".join(origins))


def policy(conf: ZaqarConf) -> Iterator[Line]:
    """The policy file; oslo.policy looks for policy.yaml beside the configuration."""
    named = conf.get("oslo_policy", "policy_file")
    path = conf.path.parent / Path(named or "policy.yaml")
    if path.is_file():
        yield Setting("policy_file", str(path))
        yield Note("`zaqar-notify policy list` says whether the file can be used.")
    elif named:
        yield Note(
            "[oslo_policy] policy_file does not exist here: the defaults hold, which are Zaqar's."
        )


def logs(conf: ZaqarConf) -> Iterator[Line]:
    """Level and form of logs."""
    if conf.is_true(DEFAULT, "debug"):
        yield Setting("log_level", "debug")
    if conf.is_true(DEFAULT, "use_json"):
        yield Setting("log_format", "json")


def quotas(conf: ZaqarConf) -> Iterator[Line]:
    """Zaqar has none."""
    yield Note(
        "Zaqar has no quotas. A cluster of the service limits each project (ZAQAR_QUOTA_…, docs/security.md); 0 takes "
        "a limit away."
    )
