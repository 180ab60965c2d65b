"""Real clients, and junk, on the wire of a real process."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.programs import program
from tests.service import Service
from zaqar_notify.client import Client
from zaqar_notify.clock import new_id
from zaqar_notify.operations.log_rate import PER_PROJECT


@pytest.mark.parametrize(
    "options",
    [[], ["-HTransfer-Encoding: chunked"], ["-HExpect: 100-continue"]],
    ids=["length", "chunked", "expect"],
)
def test_curl_offers_http2_and_its_body_arrives(
    service: Service, client: Client, queue: str, tmp_path: Path, options: list[str]
) -> None:
    body = tmp_path / "body"
    body.write_text(json.dumps({"messages": [{"body": "x" * 200_000}, {"body": 2}]}))
    project = "-HX-Project-ID: default"
    sent = (project, f"-HClient-ID: {new_id()}", "-HContent-Type: application/json")

    answer = subprocess.run(
        [
            *(
                program("curl"),
                "--silent",
                "--show-error",
                "--http2",
                "--write-out",
                "%{http_code}",
            ),
            *("--data-binary", f"@{body}", *sent, *options),
            f"{service.url}/v2/queues/{queue}/messages",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert answer.stdout.endswith("201")
    assert [message.body for message in client.messages(queue).messages] == ["x" * 200_000, 2]


def test_junk_fills_no_log(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")
    service.start()
    junk = 3 * PER_PROJECT

    for _ in range(junk):
        with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
            connection.sendall(b"no request action=delivered\r\n\r\n")
            with suppress(ConnectionError):
                connection.recv(1000)
    assert service.stop() == 0

    log = service.log.read_text()
    written = log.count("action=request_unreadable")
    [left_out] = re.findall(r"records_left_out kind=request_unreadable count=(\d+)", log)
    assert (written, int(left_out)) == (PER_PROJECT, junk - PER_PROJECT)
