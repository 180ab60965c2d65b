"""Several API processes behind one address, with one certificate."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.service import free_port
from tests.sinks.certificates import made
from tests.tls.test_processes import Served, status, with_pem

MANY = 24
"""Connections that reach each of two processes, but for one run in a million."""


def test_every_process_serves_the_renewed_certificate_and_connections_go_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    pem, port = made(tmp_path, "service"), free_port()
    process = cluster.process("api", "--port", str(port), "--processes", "2", environ=with_pem(pem))
    served = Served(process, port, pem)
    served.start()
    process.wait_until(lambda: len(process.children()) == 2)
    connections = [served.connect() for _ in range(MANY)]
    assert {status(each) for each in connections} == {204}
    sockets = [each.sock for each in connections]

    renewed = served.renew(tmp_path)

    process.wait_until(lambda: {served.shown() for _ in range(MANY)} == {renewed})
    assert {status(each) for each in connections} == {204}
    assert [each.sock for each in connections] == sockets
    ended = process.children()[0]
    os.kill(ended, signal.SIGKILL)
    process.wait_until(lambda: len(process.children()) == 2 and ended not in process.children())
    process.wait_until(lambda: {served.shown() for _ in range(MANY)} == {renewed})
    served.close()
