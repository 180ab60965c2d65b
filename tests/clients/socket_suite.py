"""Runs the WebSocket tests inside a Zaqar wheel against a service. It runs with that Zaqar's own Python.

`python socket_suite.py URL MODULE...` prints a JSON object: how many tests ran, how many were skipped, which failed.

These tests call the server's object for a connection and look at what it sends. Here that object is a client of the
service: a frame that it is given goes there, and the answer comes back as if the object had made it.
"""

from __future__ import annotations

import json
import os
import sys
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import websocket
import zaqar.tests
import zaqar.transport.websocket.factory

os.environ["ZAQAR_TESTS_CONFIGS_DIR"] = str(Path(zaqar.tests.__file__).with_name("etc"))

from zaqar.conf import default, drivers_transport_websocket, transport
from zaqar.tests.unit.transport.websocket import base
from zaqar.transport.base import ResourceDefaults

URL, *MODULES = sys.argv[1:]


PROJECTS = ("7e55e1a7e", "480924", "foo", "protocol-test")
"""Of the tests: what one leaves there is in the way of the next."""


class Connection:
    """A connection to the service, with the methods of Zaqar's that its tests use."""

    def __init__(self) -> None:
        self._socket = websocket.create_connection(URL, timeout=10)

    def onMessage(self, payload: Any, is_binary: bool) -> None:  # noqa: N802
        if is_binary:
            self._socket.send_binary(payload)
        else:
            self._socket.send(payload if isinstance(payload, str) else payload.decode())
        opcode, answer = self._socket.recv_data()
        self.sendMessage(answer, opcode == websocket.ABNF.OPCODE_BINARY)

    def sendMessage(self, payload: bytes, is_binary: bool) -> None:  # noqa: N802
        """The tests put theirs in its place."""


def delete_queues() -> None:
    """Zaqar's tests begin with an empty store each."""
    client = websocket.create_connection(URL, timeout=10)

    def ask(action: str, project: str, **body: object) -> Any:
        headers = {"Client-ID": "x", "X-Project-ID": project}
        client.send(json.dumps({"action": action, "headers": headers, "body": body}))
        return json.loads(client.recv())["body"]

    for project in PROJECTS:
        for queue in ask("queue_list", project, limit=20)["queues"]:
            ask("queue_delete", project, queue_name=queue["name"])
    client.close()


def set_up(self: Any) -> None:
    """As Zaqar's own, but for its server: the service is used instead."""
    zaqar.tests.TestBase.setUp(self)
    delete_queues()
    self.conf.register_opts(default.ALL_OPTS)
    self.conf.register_opts(transport.ALL_OPTS, group=transport.GROUP_NAME)
    self.transport_cfg = self.conf[transport.GROUP_NAME]
    options = drivers_transport_websocket
    self.conf.register_opts(options.ALL_OPTS, group=options.GROUP_NAME)
    self.ws_cfg = self.conf[options.GROUP_NAME]
    self.transport = mock.Mock(factory=Connection)
    self.api = mock.Mock(get_defaults=lambda: ResourceDefaults(self.conf))


base.TestBase.setUp = set_up
base.TestBase.tearDown = zaqar.tests.TestBase.tearDown

result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(
    unittest.defaultTestLoader.loadTestsFromNames(MODULES)
)
failed = [test.id().rpartition(".")[2] for test, _ in result.failures + result.errors]
print(json.dumps({"run": result.testsRun, "skipped": len(result.skipped), "failed": failed}))
