"""The steps of the page about Keystone, in a shell, with a real Keystone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import blocks, read, section
from tests.keystone import ADMIN, DOMAIN, PASSWORD, keystone
from tests.service import START_SECONDS, free_port, has_ended

STEPS = blocks(section(read("keystone.md"), "## Steps"), "sh")
DOCUMENTED = "https://keystone.example.org:5000"


def test_the_steps_bring_a_service_into_a_cloud(tmp_path: Path) -> None:
    cloud, port = keystone(), free_port()
    cloud.ask("POST", "/projects", {"project": {"name": "service", "domain_id": DOMAIN}})
    user = cloud.user("member")
    account, serve, check = (
        step.replace(DOCUMENTED, cloud.url)
        .replace("https://messaging.example.org", f"http://127.0.0.1:{port}")
        .replace("--port 8888", f"--port {port}")
        .replace("pip install", "true")
        for step in STEPS
    )

    run(account, cloud.url, ADMIN, "", tmp_path)
    log = tmp_path / "log"
    with log.open("wb") as file:
        service = subprocess.Popen(
            ["bash", "-c", f"{serve.rstrip()} & wait"],
            env=environ(),
            cwd=tmp_path,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(port, service, log)
        run(check, cloud.url, user.name, user.project, tmp_path)
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        service.wait()


def run(script: str, url: str, user: str, project: str, home: Path) -> str:
    """The output of commands of a user of the cloud."""
    scope = {"OS_PROJECT_ID": project} if project else {"OS_PROJECT_NAME": ADMIN}
    given = {
        "OS_AUTH_URL": url,
        "OS_USERNAME": user,
        "OS_PASSWORD": PASSWORD,
        "OS_USER_DOMAIN_ID": DOMAIN,
        "OS_PROJECT_DOMAIN_ID": DOMAIN,
        "OS_IDENTITY_API_VERSION": "3",
        "HOME": str(home),
    }
    ended = subprocess.run(
        ["bash", "-ec", script],
        env=environ() | given | scope,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def environ() -> dict[str, str]:
    commands = Path(sys.executable).parent
    return os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"}


def wait_for(port: int, service: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(START_SECONDS * 10):
        if f":{port}" in log.read_text():
            return
        assert not has_ended(service, within_seconds=0.1), log.read_text()
    raise AssertionError(log.read_text())
