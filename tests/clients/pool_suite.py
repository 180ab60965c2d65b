"""Runs the tests of pools and flavors inside a Zaqar wheel against a service. It runs with that Zaqar's own Python.

`python pool_suite.py URL STORE MODULE...` prints a JSON object: how many tests ran, which failed. STORE is the URI of a SQLite
file. Zaqar's tests name further databases of a server by a slash and a name: here they are files beside that one.
"""

from __future__ import annotations

import json
import os
import sys
import unittest
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

os.environ["ZAQAR_TEST_EVERYTHING"] = "1"

import zaqar.tests

os.environ["ZAQAR_TESTS_CONFIGS_DIR"] = str(Path(zaqar.tests.__file__).with_name("etc"))

from zaqar.tests import base as tests
from zaqar.tests.functional import base as functional
from zaqar.tests.functional import helpers, http
from zaqar.tests.unit.transport.wsgi import base
from zaqar.transport import base as transport
from zaqar.transport import validation

URL, STORE, *MODULES = sys.argv[1:]
HEADERS = {
    "Client-ID": "3381af92-2b9e-11e3-b191-71861300734c",
    "X-Project-ID": "518b51ea133c4facadae42c328d6b77b",
    "Host": urlsplit(URL).netloc,
}
calls = requests.Session()


class ClientOfVersion2(http.Client):  # type: ignore[misc]
    """Pools are the same in version 1.1, which is served without them."""

    def set_base_url(self, base_url: str) -> None:
        super().set_base_url(base_url.replace("/v1.1/", "/v2/"))


class Answer:
    """Where Zaqar's tests look for the status."""

    status = ""


def set_up(self: Any) -> None:
    """As Zaqar's own, but for its server: the service is used instead."""
    tests.TestBase.setUp(self)
    self.mongodb_url = STORE
    self.srmock = Answer()
    self.headers = HEADERS
    remove_all(self)


def tear_down(self: Any) -> None:
    remove_all(self)
    tests.TestBase.tearDown(self)


def remove_all(self: Any) -> None:
    """As Zaqar's own, which drops its collections."""
    for kind in ("flavors", "pools"):
        for each in calls.get(f"{URL}/v2/{kind}?limit=20", headers=HEADERS).json()[kind]:
            address = f"{URL}/v2/{kind}/{each['name']}"
            if kind == "pools":
                calls.patch(address, json={"flavor": ""}, headers=HEADERS)
            calls.delete(address, headers=HEADERS).raise_for_status()


def simulate_request(
    self: Any, path: str, method: str = "GET", body: str = "", query_string: str = "", **_: Any
) -> list[str]:
    sent = body.replace(f"{STORE}/", f"{STORE}.").encode()
    answer = calls.request(
        method, f"{URL}{path}", params=query_string, data=sent, headers=self.headers
    )
    self.srmock.status = f"{answer.status_code} {HTTPStatus(answer.status_code).phrase}"
    return [answer.text]


def set_up_functional(self: Any) -> None:
    zaqar.tests.TestBase.setUp(self)
    self.mongodb_url = f"{STORE}.functional"
    self.cfg = functional.config.load_config()
    self.cfg.set_override("url", URL, "zaqar")
    self.mconf = self.load_conf(self.cfg.zaqar.config)
    self.limits = validation.Validator(self.mconf)._limits_conf
    self.resource_defaults = transport.ResourceDefaults(self.mconf)
    self.client = ClientOfVersion2()
    self.headers = helpers.create_zaqar_headers(self.cfg)
    self.client.set_headers(self.headers)


base.TestBase.setUp = set_up
base.TestBase.tearDown = tear_down
base.TestBase.simulate_request = simulate_request
functional.FunctionalTestBase.setUp = set_up_functional
functional.FunctionalTestBase.tearDownClass = classmethod(lambda cls: None)

result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(
    unittest.defaultTestLoader.loadTestsFromNames(MODULES)
)
failed = [test.id().rpartition(".")[2] for test, _ in result.failures + result.errors]
print(json.dumps({"run": result.testsRun, "skipped": len(result.skipped), "failed": failed}))
