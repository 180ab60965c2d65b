"""The service's account in Keystone, as settings and configuration files of OpenStack name it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud import Cloud
from tests.keystone import PASSWORD
from zaqar_notify.auth.keystone import read_account
from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import Settings

URL = "http://keystone.example:5000"
BY_PASSWORD = {
    "keystone_url": URL,
    "keystone_username": "zaqar",
    "keystone_password": PASSWORD,
}


def conf(tmp_path: Path, text: str) -> str:
    path = tmp_path / "zaqar.conf"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "url", [URL, f"{URL}/", f"{URL}/v3", f"{URL}/v3/", f"{URL}/v2.0", "https://c.example/identity"]
)
def test_the_address_may_be_written_as_in_openstack(url: str) -> None:
    account = read_account(Settings(**(BY_PASSWORD | {"keystone_url": url})))

    assert account.url in (f"{URL}/v3", "https://c.example/identity/v3")


def test_the_account_of_a_user_has_the_usual_defaults() -> None:
    account = read_account(Settings(**BY_PASSWORD))

    domain = {"name": "Default"}
    user = {"name": "zaqar", "domain": domain, "password": PASSWORD}
    assert account.login == {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": "service", "domain": domain}},
    }


async def test_an_existing_section_is_read_as_it_is(cloud: Cloud, tmp_path: Path) -> None:
    path = conf(
        tmp_path,
        f"""
[DEFAULT]
debug = True
[keystone_authtoken]
# As installation guides have it.
www_authenticate_uri = https://cloud.example/identity
auth_url = {cloud.keystone.url.removesuffix("/v3")}/
memcached_servers = controller:11211
auth_type = password
project_domain_id = default
user_domain_name = Default
project_name = {cloud.settings["keystone_project"]}
username = {cloud.settings["keystone_username"]}
password = '{PASSWORD}'
service_token_roles = service, glance
[oslo_policy]
enforce_scope = true
""",
    )
    validator = cloud.validator(
        keystone_url="", keystone_username="", keystone_password="", keystone_conf=path
    )

    assert await validator.caller(cloud.keystone.token(cloud.keystone.user("member"))) is not None
    assert validator.challenge == 'Keystone uri="https://cloud.example/identity"'
    assert read_account(Settings(keystone_conf=path)).service_roles == {"service", "glance"}


async def test_a_section_may_name_an_application_credential_in_another_section(
    cloud: Cloud, tmp_path: Path
) -> None:
    credential, secret = cloud.keystone.application_credential(cloud.service)
    path = conf(
        tmp_path,
        f"""
[keystone_authtoken]
auth_section = keystone
[keystone]
auth_url = {cloud.keystone.url}
auth_type = v3applicationcredential
application_credential_id = {credential}
application_credential_secret = {secret}
""",
    )
    validator = cloud.validator(
        keystone_url="", keystone_username="", keystone_password="", keystone_conf=path
    )

    assert await validator.caller(cloud.keystone.token(cloud.keystone.user("member"))) is not None


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    path = conf(
        tmp_path, "[keystone_authtoken]\nauth_url=http://old.example\nusername=nova\npassword=x\n"
    )

    account = read_account(Settings(keystone_conf=path, **BY_PASSWORD))

    assert account.url == f"{URL}/v3"
    assert account.login["identity"]["password"]["user"]["name"] == "zaqar"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can't be read"),
        ("[DEFAULT]\n", "no section [keystone_authtoken]"),
        ("password = x\n[keystone_authtoken]\n", "no configuration file"),
        ("[keystone_authtoken]\n", "ZAQAR_KEYSTONE_URL is missing"),
        ("[keystone_authtoken]\nauth_url=cloud.example\n", "must be like https://HOST:5000"),
        (f"[keystone_authtoken]\nauth_url={URL}\n", "no account in Keystone"),
        (f"[keystone_authtoken]\nauth_url={URL}\nauth_type=v3kerberos\n", "'v3kerberos'"),
        (
            f"[keystone_authtoken]\nauth_url={URL}\nusername=a\npassword=b\nproject_name=c\ncafile=/none\n",
            "/none",
        ),
    ],
)
def test_a_file_that_names_no_account_stops_the_start(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = conf(tmp_path, text) if text is not None else str(tmp_path / "absent")

    with pytest.raises(StartRefused) as refused:
        read_account(Settings(keystone_conf=path))

    assert words in str(refused.value)
    assert "ZAQAR_KEYSTONE" in str(refused.value)


def test_an_address_with_a_password_is_refused_without_a_word_of_it() -> None:
    with pytest.raises(StartRefused) as refused:
        read_account(Settings(keystone_url="https://us:open-sesame@cloud.example:5000"))

    assert "ZAQAR_KEYSTONE_URL" in str(refused.value)
    assert "open-sesame" not in str(refused.value)


def test_without_the_extra_the_sentence_says_how_to_install_it() -> None:
    program = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from zaqar_notify.auth.keystone import open_keystone\n"
        "from zaqar_notify.settings import Settings\n"
        "open_keystone(Settings())\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )

    assert "pip install 'zaqar-notify[openstack]'" in ended.stderr.splitlines()[-1]
