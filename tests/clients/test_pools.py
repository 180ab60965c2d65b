"""Pools and flavors by the clients of Zaqar: python-zaqarclient, and each `openstack messaging` command of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zaqarclient.queues import client as zaqarclient
from zaqarclient.transport import errors

from tests.service import Service

COMMANDS = """\
messaging pool create p1 {stores}/1.db 100 -f value
messaging pool create p2 {stores}/2.db 50 --flavor gold -f value
messaging pool list -f value
messaging pool show p2 -f value
messaging pool update p2 --pool_weight 7 -f value
messaging pool list --limit 1 --detailed -f value
messaging flavor create gold --pool_list p1,p2 -f value
messaging flavor list --detailed -f value
messaging flavor show gold -f value
messaging flavor update gold --pool_list p2 -f value
messaging flavor list -f value
messaging flavor delete gold
messaging pool delete p1
messaging pool delete p2
messaging pool list -f value
"""
CAPABILITIES = "['FIFO', 'CLAIMS', 'DURABILITY', 'AOD']"
PRINTED = f"""\
p1 100 {{stores}}/1.db None {{{{}}}}
p2 50 {{stores}}/2.db gold {{{{}}}}
p1 100 {{stores}}/1.db None p2 50 {{stores}}/2.db gold
p2 50 {{stores}}/2.db gold
p2 7 {{stores}}/2.db gold
p1 100 {{stores}}/1.db None {{{{}}}}
gold ['p1', 'p2'] {{{{}}}}
gold ['p1', 'p2'] {CAPABILITIES}
gold ['p1', 'p2'] {CAPABILITIES}
gold ['p2'] {CAPABILITIES}
gold ['p2']
"""
"""The values that these print, a line for each command; there is no line for the last list."""

pytestmark = [
    # The library never closes its `requests` sessions.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = tmp_path_factory.mktemp("pools") / "data"
    service = Service(
        data, environ={"ZAQAR_ADMIN_MODE": "true", "ZAQAR_DEFAULT_PROJECT": "operators"}
    )
    service.start()
    yield service
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


def test_every_openstack_command(service: Service, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("openstack")
    stores = f"sqlite://{tmp_path}"
    given = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": service.url, "HOME": str(tmp_path)}

    # One process for all of them: each would need seconds to load its libraries.
    ended = subprocess.run(
        [program],
        input=COMMANDS.format(stores=stores),
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.stderr.replace("(openstack) ", "").strip() == ""
    printed = ended.stdout.replace("(openstack) ", "").split()
    assert printed == PRINTED.format(stores=stores).split()


def test_the_calls_of_python_zaqarclient(service: Service, tmp_path: Path) -> None:
    client = connect(service.url)
    uri = f"sqlite://{tmp_path}/store.db"

    pool = client.pool("files", uri=uri, weight=10, options={"a": 1})
    flavor = client.flavor("durable", pool_list=["files"])
    pool.update({"weight": 5})
    flavor.update({"pool_list": ["files"]})

    assert client.pool("files", auto_create=False).get()["weight"] == 5
    assert [(each.name, each.flavor) for each in client.pools()] == [("files", "durable")]
    assert [each.options for each in client.pools(detailed=True)] == [{"a": 1}]
    assert flavor.get()["capabilities"] == ["FIFO", "CLAIMS", "DURABILITY", "AOD"]
    assert [(each.name, each.pool_list) for each in client.flavors()] == [("durable", ["files"])]
    with pytest.raises(errors.ForbiddenError, match="is used by flavors durable"):
        pool.delete()
    flavor.delete()
    queue = client.queue("jobs", force_create=True)
    queue.post([{"body": "first", "ttl": 300}])
    assert [message.body for message in queue.messages(echo=True)] == ["first"]
    with pytest.raises(errors.ForbiddenError, match="such as 'jobs'"):
        pool.delete()
    queue.delete()
    pool.delete()
    with pytest.raises(errors.ResourceNotFound):
        pool.get()


def connect(url: str) -> Any:
    auth = {"backend": "noauth", "options": {"os_project_id": "p1"}}
    return zaqarclient.Client(url, version=2, conf={"auth_opts": auth})
