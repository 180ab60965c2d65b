"""Runs the functional tests inside a Zaqar wheel against a service. It runs with that Zaqar's own Python.

`python former_suite.py URL MODULE...` prints a JSON object: how many tests ran, how many were skipped, which failed.
"""

from __future__ import annotations

import json
import os
import sys
import unittest
from pathlib import Path
from typing import Any

import zaqar.tests

os.environ["ZAQAR_TESTS_CONFIGS_DIR"] = str(Path(zaqar.tests.__file__).with_name("etc"))

from zaqar.tests.functional import base, config, helpers, http
from zaqar.transport import base as transport
from zaqar.transport import validation

URL, *MODULES = sys.argv[1:]


def set_up(self: Any) -> None:
    """As Zaqar's own, but for its server: the service is used instead."""
    zaqar.tests.TestBase.setUp(self)
    self.cfg = config.load_config()
    self.cfg.set_override("url", URL, "zaqar")
    self.mconf = self.load_conf(self.cfg.zaqar.config)
    self.limits = validation.Validator(self.mconf)._limits_conf
    self.resource_defaults = transport.ResourceDefaults(self.mconf)
    self.class_ttl_gc_interval = 1
    self.client = http.Client()
    self.headers = helpers.create_zaqar_headers(self.cfg)
    self.headers_response_with_body = {"location", "content-type"}
    self.client.set_headers(self.headers)


base.FunctionalTestBase.setUp = set_up
base.FunctionalTestBase.tearDownClass = classmethod(lambda cls: None)

result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(
    unittest.defaultTestLoader.loadTestsFromNames(MODULES)
)
failed = [test.id().rpartition(".")[2] for test, _ in result.failures + result.errors]
print(json.dumps({"run": result.testsRun, "skipped": len(result.skipped), "failed": failed}))
