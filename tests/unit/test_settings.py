"""The values of settings, their sources, and the refusal of wrong ones."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import NAMES, Settings, load_settings, shown, sources
from zaqar_notify.settings.pages import example_file, markdown_page

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "zaqar.env"


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(StartRefused) as refused:
        load_settings(environ)
    return str(refused.value)


def test_nothing_given_means_the_defaults() -> None:
    assert load_settings({}) == Settings()


def test_the_environment_is_read() -> None:
    settings = load_settings({"ZAQAR_SMTP_PORT": "2525", "PATH": "/bin"})

    assert settings.smtp_port == 2525


def test_a_command_that_is_no_command_line_is_refused_with_a_sentence() -> None:
    sentence = refusal({"ZAQAR_SENDMAIL_COMMAND": "sendmail 'unbalanced"})

    assert "ZAQAR_SENDMAIL_COMMAND" in sentence
    assert "No closing quotation" in sentence


def test_lists_are_separated_by_commas() -> None:
    settings = load_settings(
        {
            "ZAQAR_SUBSCRIBER_TYPES": "http, queue",
            "ZAQAR_DELIVERY_ALLOW": "10.0.0.0/8,fd00::/8",
            "ZAQAR_SIGNED_URL_SECRETS": "new,old",
        }
    )

    assert settings.subscriber_types == ("http", "queue")
    assert settings.delivery_allow == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert [key.get_secret_value() for key in settings.signed_url_secrets] == ["new", "old"]


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(file: Path) -> None:
    file.write_text("ZAQAR_SMTP_PORT=1\nZAQAR_MAX_CLAIM_TTL=301\nZAQAR_MAX_CLAIM_GRACE=61\n")
    environ = {
        "ZAQAR_CONFIG_FILE": str(file),
        "ZAQAR_SMTP_PORT": "2",
        "ZAQAR_MAX_CLAIM_TTL": "302",
    }

    settings = load_settings(environ, smtp_port=3)

    assert (settings.smtp_port, settings.max_claim_ttl, settings.max_claim_grace) == (3, 302, 61)


def test_sources_say_where_each_value_comes_from(file: Path) -> None:
    file.write_text("ZAQAR_SMTP_HOST=mail.example\nZAQAR_SMTP_PORT=1\n")

    found = sources({"ZAQAR_CONFIG_FILE": str(file), "ZAQAR_SMTP_PORT": "2"})

    assert found["smtp_host"] == f"file {file}"
    assert found["smtp_port"] == "environment"
    assert found["smtp_tls"] == "default"
    assert tuple(found) == NAMES
    assert set(NAMES) == set(Settings.model_fields)


def test_the_file_may_quote_and_comment_but_never_expands(file: Path) -> None:
    file.write_text("# store\n\nexport ZAQAR_STORE_URI='a b'\nZAQAR_WEBHOOK_SECRET=\"${HOME}\"\n")

    settings = load_settings({"ZAQAR_CONFIG_FILE": str(file)})

    assert settings.store_uri == "a b"
    assert settings.webhook_secret.get_secret_value() == "${HOME}"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ZAQAR_SMTP_PORT", "99999", "less than or equal to 65535"),
        ("ZAQAR_SMTP_PORT", "", "valid integer"),
        ("ZAQAR_MAX_CLAIM_TTL", "10", "greater than or equal to 60"),
        ("ZAQAR_MAX_MESSAGE_DELAY", "-1", "greater than or equal to 0"),
        ("ZAQAR_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("ZAQAR_DELIVERY_ALLOW", "10.0.0.1/8", "host bits set"),
        ("ZAQAR_ENABLE_CHECKSUM", "perhaps", "valid boolean"),
    ],
)
def test_a_wrong_value_is_refused_with_name_value_place_and_reason(
    name: str, value: str, reason: str
) -> None:
    sentence = refusal({name: value})

    assert sentence.startswith(f"{name}={value!r} (environment) is wrong: ")
    assert reason in sentence


def test_all_wrong_values_are_named_at_once() -> None:
    sentence = refusal({"ZAQAR_SMTP_PORT": "x", "ZAQAR_LOG_LEVEL": "loud"})

    assert "ZAQAR_SMTP_PORT" in sentence
    assert "ZAQAR_LOG_LEVEL" in sentence


def test_a_wrong_value_of_the_command_line_says_so() -> None:
    with pytest.raises(StartRefused, match=r"ZAQAR_SMTP_PORT='0' \(command line\) is wrong"):
        load_settings({}, smtp_port=0)


HOST = {"ZAQAR_SMTP_HOST": "mail.example"}
SENDER = {"ZAQAR_SMTP_SENDER": "ops@example.org"}
COMMAND = {"ZAQAR_SENDMAIL_COMMAND": "/usr/sbin/sendmail -oi"}
USER, PASSWORD = {"ZAQAR_SMTP_USERNAME": "u"}, {"ZAQAR_SMTP_PASSWORD": "secret"}
SENDERS = {"ZAQAR_SMTP_SENDERS": "@example.org"}


@pytest.mark.parametrize(
    ("environ", "lacking"),
    [
        (HOST, "ZAQAR_SMTP_SENDER or ZAQAR_SENDMAIL_COMMAND"),
        (SENDER, "ZAQAR_SMTP_HOST or ZAQAR_SENDMAIL_COMMAND"),
        (SENDERS, "ZAQAR_SMTP_HOST or ZAQAR_SENDMAIL_COMMAND"),
        (HOST | SENDER | USER, "ZAQAR_SMTP_PASSWORD"),
        (HOST | SENDER | PASSWORD, "ZAQAR_SMTP_USERNAME"),
        (COMMAND | USER | PASSWORD, "ZAQAR_SMTP_HOST"),
    ],
)
def test_a_setting_that_is_of_no_use_alone_is_refused(
    environ: dict[str, str], lacking: str
) -> None:
    sentence = refusal(environ)

    assert f"is of no use without {lacking}: set that, too, or leave it out" in sentence
    assert "secret" not in sentence


@pytest.mark.parametrize(
    "environ",
    [
        HOST | SENDER,
        HOST | SENDER | SENDERS | USER | PASSWORD,
        COMMAND,
        COMMAND | SENDER,
        HOST | SENDER | COMMAND,
        dict.fromkeys(HOST | SENDER | USER | PASSWORD | COMMAND, ""),
    ],
)
def test_settings_that_suffice_for_mail_are_taken(environ: dict[str, str]) -> None:
    assert load_settings(environ)


def test_settings_that_contradict_each_other_are_refused_together() -> None:
    sentence = refusal({"ZAQAR_DEFAULT_CLAIM_TTL": "600", "ZAQAR_MAX_CLAIM_TTL": "300"})

    assert sentence == (
        "ZAQAR_DEFAULT_CLAIM_TTL=600 is more than ZAQAR_MAX_CLAIM_TTL=300; set both"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ZAQAR_SMPT_PORT", "did you mean ZAQAR_SMTP_PORT?"),
        ("ZAQAR_STORE_URL", "did you mean ZAQAR_STORE_URI?"),
        ("ZAQAR_PROJCT", "did you mean ZAQAR_PROJECT?"),
        ("ZAQAR_XYZZY_9", "see settings.example.env"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, hint: str) -> None:
    assert refusal({name: "1"}) == f"{name} (environment) is not a setting; {hint}"


def test_an_unknown_name_in_the_file_is_refused_even_without_the_prefix(file: Path) -> None:
    file.write_text("SMTP_HOST=mail.example\n")

    sentence = refusal({"ZAQAR_CONFIG_FILE": str(file)})

    assert sentence == (f"SMTP_HOST (file {file}) is not a setting; did you mean ZAQAR_SMTP_HOST?")


@pytest.mark.parametrize(
    "environ",
    [
        {"ZAQAR_URL": "http://a", "ZAQAR_PROJECT": "p", "ZAQAR_CLIENT_ID": "c"},
        {"ZAQAR_TEST_MONGODB_URI": "mongodb://a"},
        {"ZAQAR_PORT": "tcp://10.0.0.1:8888", "ZAQAR_SERVICE_HOST": "10.0.0.1"},
        {"ZAQAR_NOTIFY_PORT_8888_TCP_ADDR": "10.0.0.1", "ZAQAR_NOTIFY_SERVICE_PORT_HTTP": "1"},
    ],
)
def test_names_of_the_client_of_tests_and_of_service_links_are_let_be(
    environ: dict[str, str],
) -> None:
    assert load_settings(environ) == Settings()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"

    sentence = refusal({"ZAQAR_CONFIG_FILE": str(path)})

    assert sentence == f"ZAQAR_CONFIG_FILE='{path}' can't be read: No such file or directory"


def test_a_file_that_is_not_text_is_refused(file: Path) -> None:
    file.write_bytes(b"ZAQAR_SMTP_HOST=\xff\n")

    assert "it is not UTF-8 text" in refusal({"ZAQAR_CONFIG_FILE": str(file)})


@pytest.mark.parametrize("line", ["ZAQAR_SMTP_HOST", "ZAQAR_SMTP_HOST='open", "= 3"])
def test_a_line_that_is_not_name_and_value_is_refused_by_its_number(file: Path, line: str) -> None:
    file.write_text(f"ZAQAR_SMTP_PORT=25\n{line}\n")

    assert "line 2 of" in refusal({"ZAQAR_CONFIG_FILE": str(file)})


def test_no_secret_is_shown() -> None:
    settings = load_settings(
        {
            "ZAQAR_WEBHOOK_SECRET": "hush",
            "ZAQAR_SIGNED_URL_SECRETS": "hush,hush",
            "ZAQAR_STORE_URI": "mongodb://user:hush/h@h@host/?replicaSet=r",
        }
    )

    texts = [shown(getattr(settings, name)) for name in Settings.model_fields]

    assert not any("hush" in text for text in texts)
    assert shown(settings.store_uri) == "mongodb://user:********@host/?replicaSet=r"


def test_a_secret_that_is_not_set_shows_as_empty() -> None:
    assert shown(Settings().smtp_password) == ""


def test_the_example_file_has_every_setting() -> None:
    assert (ROOT / "settings.example.env").read_text() == example_file()


def test_the_example_file_without_its_comment_signs_sets_the_defaults(file: Path) -> None:
    lines = example_file().splitlines()
    settings = [line.removeprefix("# ") for line in lines if line.startswith("# ZAQAR_")]
    file.write_text("\n".join(settings))

    assert len(settings) == len(Settings.model_fields)
    assert load_settings({"ZAQAR_CONFIG_FILE": str(file)}) == Settings()


def test_the_documented_table_has_every_setting() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == markdown_page()


def test_every_setting_has_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(StartRefused, match="ZAQAR_SMTP_PROT is not a setting"):
        load_settings({}, smtp_prot=25)


@pytest.mark.parametrize(
    "origin",
    [
        "https://console.example.org/",
        "https://Console.example.org",
        "https://console.example.org:443",
        "console.example.org",
        "https://*.example.org",
        "https://user@console.example.org",
        "null",
        "*,https://console.example.org",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_with_a_sentence(origin: str) -> None:
    sentence = refusal({"ZAQAR_CORS_ORIGINS": origin})

    assert "ZAQAR_CORS_ORIGINS" in sentence
    assert "origin" in sentence


def test_origins_of_browsers_are_taken() -> None:
    origins = "https://console.example.org,http://localhost:3000,http://[::1]:8080,app://main"

    assert load_settings({"ZAQAR_CORS_ORIGINS": origins}).cors_origins == tuple(origins.split(","))
