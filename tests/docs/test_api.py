"""The API page's example verifies our signatures, and its routes exist."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from api.routes.probes import DOCUMENTED
from tests.api.surfaces import RESOURCES
from tests.docs.pages import blocks, named, read, rows, section
from zaqar_notify.rules.webhook_signing import sign_webhook
from zaqar_notify.settings import Settings

PAGE = read("api.md")
BODY = '{"body": "grüß dich"}'.encode()
SECRET, FORMER, FOREIGN = ("whsec_" + b64encode(bytes([n] * 32)).decode() for n in (1, 2, 3))

Verify = Callable[[str, Mapping[str, str], bytes], bool]


@pytest.fixture
def is_ours() -> Verify:
    (example,) = blocks(PAGE, "python")
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - our own page
    verify: Verify = names["is_ours"]
    return verify


@pytest.mark.parametrize("secret", [SECRET, FORMER])
def test_the_example_verifies_what_we_sign_with_either_secret(is_ours: Verify, secret: str) -> None:
    assert is_ours(secret, _signed(time.time()), BODY)


def test_the_example_refuses_what_is_foreign_altered_or_old(is_ours: Verify) -> None:
    now = time.time()

    assert not is_ours(FOREIGN, _signed(now), BODY)
    assert not is_ours(SECRET, _signed(now), BODY + b" ")
    assert not is_ours(SECRET, _signed(now - 301), BODY)
    assert not is_ours(SECRET, _signed(now) | {"webhook-id": "msg_2"}, BODY)


def test_the_example_takes_six_lines(is_ours: Verify) -> None:
    (example,) = blocks(PAGE, "python")

    assert len(example.split("):\n")[1].splitlines()) == 6


def test_the_routes_beyond_zaqar_exist() -> None:
    exist = {(method, each.path) for each in RESOURCES for method in each.operations}
    exist |= {("GET", path) for path in DOCUMENTED}
    listed = re.findall(r"`([A-Z]+) (/[^`]*)`", section(PAGE, "## Beyond Zaqar"))

    assert {(method, path) for method, path in listed if (method, path) not in exist} == set()
    assert len(listed) > 5


def test_every_kind_of_subscriber_is_listed() -> None:
    table = section(PAGE, "### Subscribers and their options")

    listed = {name.partition(":")[0] for row in rows(table) for name in named(row[0])}

    assert listed == set(Settings().subscriber_types)


def _signed(timestamp: float) -> dict[str, str]:
    seconds = int(timestamp)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(seconds),
        "webhook-signature": sign_webhook([SECRET, FORMER], "msg_1", seconds, BODY),
    }
