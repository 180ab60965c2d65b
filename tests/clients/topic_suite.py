"""Runs the tests of topics inside a Zaqar wheel against a service. It runs with that Zaqar's own Python.

Those tests call Zaqar's WSGI application; here their requests go to the service. `python topic_suite.py URL` prints a
JSON object, as `former_suite.py` does.
"""

from __future__ import annotations

import json
import os
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import quote

import requests
import zaqar.tests

os.environ["ZAQAR_TESTS_CONFIGS_DIR"] = str(Path(zaqar.tests.__file__).with_name("etc"))

from oslo_utils import uuidutils
from zaqar.tests.unit.transport.wsgi.v2_0.test_topic_lifecycle import TestTopicLifecycleMongoDB

[URL] = sys.argv[1:]

OF_ZAQAR_S_INSIDE = "test_list_returns_503_on_nopoolfound_exception"
"""It replaces a method of Zaqar's storage."""


def send(method: str, target: str, **sent: Any) -> requests.Response:
    return requests.request(method, URL + target, timeout=10, **sent)


class Topics(TestTopicLifecycleMongoDB):  # type: ignore[misc]
    def setUp(self) -> None:
        zaqar.tests.TestBase.setUp(self)
        self.conf = mock.Mock()
        self.transport_cfg = SimpleNamespace(max_queue_metadata=64 * 1024)
        self.srmock = SimpleNamespace(status=None, headers_dict={})
        self.topic_path = f"{self.url_prefix}/topics"
        self.mars_topic_path = f"{self.topic_path}/mars"
        self.venus_topic_path = f"{self.topic_path}/venus"
        self.headers = {"Client-ID": uuidutils.generate_uuid(), "X-Project-ID": "3387309841abc_"}

    def tearDown(self) -> None:
        for project in ("3387309841abc_", "JAM Project", "480924", "foo", "644079696574693"):
            headers = {"Client-ID": uuidutils.generate_uuid(), "X-Project-ID": project}
            for topic in send("GET", self.topic_path, headers=headers).json()["topics"]:
                send("DELETE", topic["href"], headers=headers)
        zaqar.tests.TestBase.tearDown(self)

    def simulate_request(self, path: str, **asked: Any) -> list[bytes]:
        headers = dict(asked.get("headers", self.headers))
        if asked.get("need_project_id", True):
            headers.setdefault("X-Project-ID", "518b51ea133c4facadae42c328d6b77b")
        query = asked.get("query_string", "")
        target = f"{quote(path)}?{query}" if query else quote(path)
        answer = send(asked["method"], target, data=asked.get("body"), headers=headers)
        self.srmock.status = f"{answer.status_code} {answer.reason}"
        self.srmock.headers_dict = answer.headers
        return [answer.content]


names = [
    name
    for name in unittest.defaultTestLoader.getTestCaseNames(Topics)
    if name != OF_ZAQAR_S_INSIDE
]
result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(
    unittest.TestSuite(map(Topics, names))
)
failed = [test.id().rpartition(".")[2] for test, _ in result.failures + result.errors]
print(json.dumps({"run": result.testsRun, "skipped": len(result.skipped), "failed": failed}))
