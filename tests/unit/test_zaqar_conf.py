"""Settings of ours for a zaqar.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.zaqar.conf import read_zaqar_conf
from zaqar_notify.operations.zaqar.options import SAME
from zaqar_notify.operations.zaqar.translation import translated
from zaqar_notify.settings import Settings, load_settings

KEYSTONE = """
[keystone_authtoken]
auth_url = https://keystone.example.org:5000
username = zaqar
password = secret
project_name = service
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zaqar.conf"


def text_for(path: Path, conf: str) -> str:
    path.write_text(conf)
    return translated(read_zaqar_conf(path))


def settings_for(path: Path, conf: str) -> Settings:
    """As a process reads them from the text."""
    file = path.with_name("zaqar.env")
    file.write_text(text_for(path, conf))
    return load_settings({"ZAQAR_CONFIG_FILE": str(file)})


def comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("#"))


def test_an_empty_file_means_zaqar_s_defaults(path: Path) -> None:
    settings = settings_for(path, "")

    assert settings.auth == ("none",)
    assert settings.sendmail_command == "/usr/sbin/sendmail -oi"
    assert settings.max_message_ttl == Settings().max_message_ttl


def test_options_of_the_same_name_are_kept(path: Path) -> None:
    settings = settings_for(
        path, "[DEFAULT]\nadmin_mode = yes\n[transport]\nmax_queues_per_page = 7\n"
    )

    assert settings.admin_mode
    assert settings.max_queues_per_page == 7


def test_subscribers_of_the_websocket_stay_permitted(path: Path) -> None:
    settings = settings_for(path, "[transport]\nsubscriber_types = http, https\n")

    assert settings.subscriber_types == ("http", "https", "websocket")


@pytest.mark.parametrize(
    ("conf", "port"),
    [
        ("", 0),
        ("[drivers]\ntransport = websocket\n", 9000),
        ("[drivers:transport:websocket]\nport = 9100\nexternal-port = 443\n", 9100),
    ],
)
def test_the_websocket_s_own_port_is_kept(path: Path, conf: str, port: int) -> None:
    assert settings_for(path, conf).websocket_port == port


def test_a_management_store_of_its_own_becomes_the_control_store(path: Path) -> None:
    settings = settings_for(
        path,
        "[drivers:message_store:mongodb]\nuri = mongodb://m/?replicaSet=a\n"
        "[drivers:management_store:mongodb]\nuri = mongodb://c/?replicaSet=b\n",
    )

    assert settings.store_uri == "mongodb://m/zaqar_notify?replicaSet=a"
    assert settings.control_uri == "mongodb://c/zaqar_notify?replicaSet=b"


def test_options_of_the_same_name_are_settings() -> None:
    assert {option.name for option in SAME} <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("uri", "ours"),
    [
        (
            "mongodb://h1,h2:27018/?replicaSet=rs&w=majority",
            "mongodb://h1,h2:27018/zaqar_notify?replicaSet=rs",
        ),
        (
            "mongodb.fifo://u:p%40w@h/accounts?replicaSet=rs&w=2",
            "mongodb://u:p%40w@h/zaqar_notify?replicaSet=rs&authSource=accounts",
        ),
        (
            "mongodb://u:p@h/?authSource=a&ssl=true",
            "mongodb://u:p@h/zaqar_notify?authSource=a&tls=true&tlsCAFile=/ca.pem",
        ),
    ],
)
def test_the_store_is_a_database_of_its_own_on_zaqar_s_mongodb(
    path: Path, uri: str, ours: str
) -> None:
    options = f"uri = {uri}\nssl_ca_certs = /ca.pem\n"
    conf = "".join(
        f"[drivers:{plane}_store:mongodb]\n{options}" for plane in ("message", "management")
    )

    settings = settings_for(path, conf)

    assert (settings.store_uri, settings.control_uri) == (ours, "")


def test_zaqar_s_redis_can_be_the_broker(path: Path) -> None:
    conf = "[drivers]\nmessage_store = redis\n[drivers:message_store:redis]\nuri = redis://:pw@h:6380?dbid=2&socket_timeout=1\n"

    assert settings_for(path, conf).broker_uri == "redis://:pw@h:6380/2"


def test_keystone_s_account_is_read_from_the_file(path: Path) -> None:
    settings = settings_for(path, f"[DEFAULT]\nauth_strategy = keystone\n{KEYSTONE}")

    assert settings.auth == ("keystone",)
    assert settings.keystone_conf == str(path)


def test_an_account_of_another_user_for_trusts_is_told(path: Path) -> None:
    conf = f"[DEFAULT]\nauth_strategy = keystone\n{KEYSTONE}[trustee]\nusername = trustee\n"

    assert "[trustee] differs from [keystone_authtoken] in username" in comments(
        text_for(path, conf)
    )


def test_an_account_that_can_t_be_used_is_told(path: Path) -> None:
    told = comments(text_for(path, "[DEFAULT]\nauth_strategy = keystone\n"))

    assert "The service would refuse to start" in told


@pytest.mark.parametrize("key", ["plain", "sp ace#'quote\\", "${HOME}$x", '"in" = quotes'])
def test_the_key_of_signed_urls_survives_whatever_it_has(path: Path, key: str) -> None:
    settings = settings_for(path, f"[signed_url]\nsecret_key = {key}\n")

    assert [each.get_secret_value() for each in settings.signed_url_secrets] == [key]


def test_a_key_that_the_list_can_t_have_is_told_and_not_shown(path: Path) -> None:
    text = text_for(path, "[signed_url]\nsecret_key = sec,ret\n")

    assert "has a comma" in text
    assert "sec,ret" not in text


def test_the_smtp_library_becomes_a_relay_with_tls(path: Path) -> None:
    settings = settings_for(
        path,
        "[notification]\nsmtp_mode = self_local\nsmtp_host = mx\nsmtp_user_name = u\nsmtp_user_password = p w\n",
    )

    assert (settings.smtp_host, settings.smtp_port, settings.smtp_tls) == ("mx", 465, "tls")
    assert settings.smtp_password.get_secret_value() == "p w"


def test_a_zaqar_that_notifies_nobody_is_told(path: Path) -> None:
    quiet = text_for(path, "")
    loud = text_for(path, "[storage]\nmessage_pipeline = zaqar.notification.notifier\n")

    assert "notifies no subscriber" in quiet
    assert "notifies no subscriber" not in loud


def test_a_value_out_of_our_range_is_told_instead(path: Path) -> None:
    text = text_for(path, "[transport]\nmax_message_ttl = 30\n")

    assert "# ZAQAR_MAX_MESSAGE_TTL can't have Zaqar's value" in text
    assert "\nZAQAR_MAX_MESSAGE_TTL" not in text


def test_values_that_contradict_each_other_are_told(path: Path) -> None:
    text = text_for(path, "[transport]\nmax_claim_ttl = 100\n")

    assert "refuses to start with these settings: ZAQAR_DEFAULT_CLAIM_TTL=300" in text


def test_an_option_without_a_counterpart_is_named_with_the_reason(path: Path) -> None:
    told = comments(
        text_for(path, "[notification]\nmax_notifier_workers = 7\n[foo]\nbar = secret\n")
    )

    assert "[notification] max_notifier_workers: deliveries are not threads" in told
    assert "[foo] bar: Zaqar 23 has no such option" in told
    assert "secret" not in told.partition("without a counterpart")[2]


def test_a_policy_file_beside_the_configuration_is_taken(path: Path) -> None:
    (path.parent / "policy.yaml").write_text("{}")

    assert settings_for(path, "").policy_file == str(path.parent / "policy.yaml")


@pytest.mark.parametrize("conf", [b"no options", b"\xff\xfe"])
def test_a_file_that_is_no_configuration_is_refused_and_not_shown(path: Path, conf: bytes) -> None:
    path.write_bytes(conf)

    with pytest.raises(StartRefused, match="can't be read") as refused:
        read_zaqar_conf(path)

    assert "no options" not in str(refused.value)


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(StartRefused, match="No such file"):
        read_zaqar_conf(path)


def test_former_names_of_options_are_known(path: Path) -> None:
    conf = "[DEFAULT]\nsharding = true\n[drivers]\nstorage = redis\n"

    text = text_for(path, conf)

    assert "[DEFAULT] pooling: pools can" in text
    assert "message_store is redis" in text
