"""The clients of OpenStack with a Keystone session: they find the service in the catalogue, and send its tokens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from openstack import connection
from zaqarclient.queues import client as zaqarclient
from zaqarclient.transport import errors

from tests.cloud import Cloud
from tests.keystone import DOMAIN, PASSWORD, REGION, User
from tests.programs import do_without, program
from tests.service import Service
from zaqar_notify.client import Client
from zaqar_notify.clock import new_id

pytestmark = [
    # The libraries never close their `requests` sessions, and use what they deprecate.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning"),
]

CALLS = Path(__file__).with_name("gophercloud") / "main.go"
GOCODE = Path("/usr/share/gocode")
GOPHERCLOUD = GOCODE / "src/github.com/gophercloud/gophercloud/openstack/messaging/v2"
"""Where Debian has it."""

# The shell of these commands takes quotes away twice.
COMMANDS = """
messaging queue create jobs
messaging message post jobs '[{{\\"body\\":\\"first\\",\\"ttl\\":300}}]' --client-id {client_id}
messaging message list jobs --echo --client-id {client_id} -f value
messaging claim create jobs -f value
messaging subscription create jobs http://example.org/hook 60 -f value -c subscriber
messaging queue list -f value
messaging queue delete jobs
messaging ping
"""


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture(scope="module")
def service(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """In the catalogue."""
    data = tmp_path_factory.mktemp("keystone") / "data"
    service = Service(data, environ=cloud.environ())
    entry = cloud.keystone.endpoint("messaging", "zaqar", service.url)
    service.start()
    yield service
    cloud.keystone.forget_service(entry)
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


@pytest.fixture
def user(cloud: Cloud) -> User:
    return cloud.keystone.user("member")


def options(cloud: Cloud, user: User) -> dict[str, str]:
    """Of the user, as clients of OpenStack name them."""
    return {
        "auth_url": cloud.keystone.url,
        "username": user.name,
        "password": PASSWORD,
        "project_id": user.project,
        "user_domain_id": DOMAIN,
    }


def zaqar(cloud: Cloud, user: User) -> Any:
    given = {f"os_{name}": value for name, value in options(cloud, user).items()}
    return zaqarclient.Client(
        version=2, conf={"auth_opts": {"backend": "keystone", "options": given}}
    )


def test_python_zaqarclient_works_with_keystone(service: Service, cloud: Cloud, user: User) -> None:
    queue = zaqar(cloud, user).queue("jobs")

    queue.post([{"body": "first", "ttl": 300}])

    assert [message.body for message in queue.claim(ttl=60, grace=60)] == ["first"]


def test_projects_are_apart(service: Service, cloud: Cloud, user: User) -> None:
    zaqar(cloud, user).queue("jobs").post([{"body": "mine", "ttl": 300}])
    stranger = zaqar(cloud, cloud.keystone.user("member"))

    assert list(stranger.queue("jobs").messages(echo=True)) == []


def test_python_zaqarclient_reads_a_refused_token_as_one(
    service: Service, cloud: Cloud, user: User
) -> None:
    given = {"os_auth_token": "gAAAAforged"}
    client = zaqarclient.Client(
        service.url, version=2, conf={"auth_opts": {"backend": "keystone", "options": given}}
    )

    with pytest.raises(errors.UnauthorizedError):
        client.queue("jobs").post([{"body": "first", "ttl": 300}])


def test_openstacksdk_works_with_keystone(service: Service, cloud: Cloud, user: User) -> None:
    live = connection.Connection(auth=options(cloud, user), region_name=REGION)

    live.message.create_queue(name="jobs")
    live.message.post_message("jobs", [{"body": "first", "ttl": 300}])

    assert [message.body for message in live.message.messages("jobs", echo=True)] == ["first"]
    assert [queue.name for queue in live.message.queues()] == ["jobs"]
    live.close()


def test_the_openstack_messaging_commands_work_with_keystone(
    service: Service, cloud: Cloud, user: User, tmp_path: Path
) -> None:
    given = {f"OS_{name.upper()}": value for name, value in options(cloud, user).items()}

    # One process for all of them: each would need seconds to load its libraries.
    ended = subprocess.run(
        [Path(sys.executable).with_name("openstack")],
        input=COMMANDS.format(client_id=new_id()),
        env=os.environ | given | {"OS_IDENTITY_API_VERSION": "3", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.stderr.replace("(openstack) ", "").strip() == ""
    lines = [line.removeprefix("(openstack) ") for line in ended.stdout.splitlines()]
    assert sum("first" in line for line in lines) == 2
    assert "http://example.org/hook" in lines
    assert any(line.startswith("jobs") for line in lines)


@pytest.mark.client("gophercloud")
def test_every_call_of_gophercloud_works_with_keystone(
    service: Service, cloud: Cloud, user: User, tmp_path: Path
) -> None:
    caller = gophercloud(tmp_path)
    given = {f"OS_{name.upper()}": value for name, value in options(cloud, user).items()}
    environ = os.environ | given | {"OS_DOMAIN_ID": DOMAIN, "OS_REGION_NAME": REGION}

    ended = subprocess.run([caller], env=environ, capture_output=True, text=True, timeout=60)

    assert (ended.stderr, ended.returncode) == ("", 0)
    assert set(ended.stdout.split()) == functions_of_gophercloud()


def gophercloud(directory: Path) -> Path:
    """The program that calls it."""
    go = program("go")
    if not GOPHERCLOUD.exists():
        do_without("no gophercloud. Install golang-github-gophercloud-gophercloud-dev")
    made = directory / "gophercloud"
    environ = {
        "CGO_ENABLED": "0",
        "GO111MODULE": "off",
        "GOPATH": str(GOCODE),
        "GOCACHE": str(directory / "cache"),
    }
    subprocess.run([go, "build", "-o", made, CALLS], env=os.environ | environ, check=True)
    return made


def functions_of_gophercloud() -> set[str]:
    """Each function that sends a request, with its package."""
    return {
        f"{file.parent.name}.{name}"
        for file in GOPHERCLOUD.glob("*/requests.go")
        for name in re.findall(r"^func ([A-Z]\w+)", file.read_text(), re.M)
    }


def test_our_own_client_sends_a_token_of_keystone(
    service: Service, cloud: Cloud, user: User
) -> None:
    with Client(service.url, token=cloud.keystone.token(user)) as client:
        client.post("jobs", "first")

        claim = client.claim("jobs")

    assert claim is not None
    assert [message.body for message in claim.messages] == ["first"]


def test_a_request_without_a_token_is_told_where_to_get_one(service: Service, cloud: Cloud) -> None:
    answer = requests.get(f"{service.url}/v2/queues", timeout=10)

    assert answer.status_code == 401
    uri = cloud.keystone.url.removesuffix("/v3")
    assert f'Keystone uri="{uri}"' in answer.headers["WWW-Authenticate"]
    assert answer.json()["error"]["code"] == 401


def test_the_project_is_the_tokens_whatever_the_header_says(
    service: Service, cloud: Cloud, user: User
) -> None:
    other = cloud.keystone.user("member")
    zaqar(cloud, other).queue("secret").post([{"body": "not yours", "ttl": 300}])
    headers = {
        "X-Auth-Token": cloud.keystone.token(user),
        "X-Project-ID": other.project,
        "Client-ID": new_id(),
    }

    answer = requests.get(f"{service.url}/v2/queues", headers=headers, timeout=10)

    assert answer.json()["queues"] == []


def test_known_tokens_go_on_while_keystone_is_away_and_new_ones_are_told_to_retry(
    service: Service, cloud: Cloud, user: User
) -> None:
    known, new = cloud.keystone.token(user), cloud.keystone.token(user)

    def get(token: str) -> requests.Response:
        headers = {"X-Auth-Token": token, "Client-ID": new_id()}
        return requests.get(f"{service.url}/v2/queues", headers=headers, timeout=60)

    assert get(known).status_code == 200
    cloud.keystone.kill()
    try:
        assert get(known).status_code == 200
        answer = get(new)
    finally:
        cloud.keystone.start()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.json()["description"].startswith("Keystone")
    assert get(new).status_code == 200
