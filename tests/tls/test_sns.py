"""Envelopes of SNS, verified as receivers of SNS do: with SNS's own library, and the certificate over HTTPS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import Process
from tests.programs import do_without, program
from tests.service import command, free_port
from tests.sinks.certificates import made
from tests.sinks.receiver import Receiver, receiving
from tests.tls.test_processes import SERVES, Served, with_pem
from tests.workers.office import until

HEADERS = {"Client-ID": "3381af922b9e11e3b19171861300734c", "X-Project-ID": "p1"}
FILES = Path(__file__).parent / "sns"
BODY = {"text": 'ü \u2028 \\n "', "order": 7}
ATTRIBUTES = {"colour": "blue", "size": 3}


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a program that validates envelopes with npm's `sns-validator`."""
    directory = tmp_path_factory.mktemp("validator")
    shutil.copytree(FILES, directory, dirs_exist_ok=True)
    install = [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(install, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        do_without(f"sns-validator can't be loaded: {done.stderr[-500:]}")
    return directory


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("service")
    pem, port = made(directory, "service"), free_port()
    process = Process(
        command("up", "--port", str(port), "--data", str(directory / "data")),
        environ=with_pem(pem)
        | {
            "ZAQAR_PUBLIC_URL": f"https://127.0.0.1:{port}",
            "ZAQAR_DELIVERY_ALLOW": "127.0.0.0/8",
            "ZAQAR_REQUIRE_CONFIRMATION": "true",
        },
        log=directory / "up.log",
    )
    served = Served(process, port, pem)
    served.start()
    yield served
    served.close()
    process.ask_to_stop()
    process.end()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def call(service: Served, path: str, body: object) -> Any:
    connection = service.connect()
    connection.request("POST", f"/v2/queues{path}", json.dumps(body), HEADERS)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status < 300, text
    return json.loads(text)


def visit(service: Served, url: str) -> int:
    """Open a link as a receiver without an account does."""
    connection = service.connect()
    connection.request("GET", url.removeprefix(service.url))
    answer = connection.getresponse()
    answer.read()
    return answer.status


async def subscribed(service: Served, receiver: Receiver, queue: str, **options: str) -> str:
    """Subscribe the receiver, which confirms as receivers of SNS do; the request to confirm."""
    asked = {"subscriber": receiver.url(), "options": {"_delivery_format": "sns"} | options}
    call(service, f"/{queue}/subscriptions", asked)
    await until(lambda: len(receiver.requests) == 1)
    [request] = receiver.requests
    assert request.headers["x-amz-sns-message-type"] == "SubscriptionConfirmation"
    assert "x-amz-sns-subscription-arn" not in request.headers
    assert visit(service, json.loads(request.body)["SubscribeURL"]) == 200
    return request.body.decode()


async def envelope(service: Served, receiver: Receiver, queue: str, body: object) -> str:
    """The request that a post makes, for a queue that has a subscription."""
    count = len(receiver.requests)
    message = {"body": body, "attributes": ATTRIBUTES}
    call(service, f"/{queue}/messages", {"messages": [message]})
    await until(lambda: len(receiver.requests) > count)
    return receiver.requests[-1].body.decode()


def validated(validator: Path, service: Served, *envelopes: str) -> list[str]:
    """The verdict on each of them."""
    done = subprocess.run(
        [program("node"), "validate.js"],
        input=json.dumps(envelopes),
        cwd=validator,
        env=os.environ | {"NODE_EXTRA_CA_CERTS": str(service.pem)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("version", ["1", "2"])
async def test_sns_s_own_library_accepts_our_envelopes_and_no_other_text(
    service: Served, receiver: Receiver, validator: Path, version: str
) -> None:
    queue = f"orders{version}"

    request = await subscribed(service, receiver, queue, _signature=f"sns-v{version}")
    good = await envelope(service, receiver, queue, BODY)
    text = await envelope(service, receiver, queue, "a\nb ü")
    changed = json.dumps(json.loads(good) | {"Message": "forged"})

    assert validated(validator, service, request, good, text, changed) == [
        "valid",
        "valid",
        "valid",
        "The message signature is invalid.",
    ]
    fields = json.loads(good)
    assert json.loads(fields["Message"]) == BODY
    assert fields["SignatureVersion"] == version
    assert fields["TopicArn"] == f"arn:zaqar:sns::p1:{queue}"
    assert fields["MessageAttributes"] == {
        "colour": {"Type": "String", "Value": "blue"},
        "size": {"Type": "Number", "Value": "3"},
    }
    assert json.loads(text)["Message"] == "a\nb ü"


async def test_the_certificate_is_the_same_after_a_crash(
    service: Served, receiver: Receiver, validator: Path
) -> None:
    await subscribed(service, receiver, "news")
    before = await envelope(service, receiver, "news", 1)

    service.process.kill()
    service.process.launch()
    service.process.wait_until(lambda: service.process.printed().count(SERVES) > 1)
    after = await envelope(service, receiver, "news", 2)

    urls = {json.loads(each)["SigningCertURL"] for each in (before, after)}
    assert len(urls) == 1
    assert validated(validator, service, before, after) == ["valid", "valid"]


async def test_a_receiver_can_unsubscribe_by_its_link(service: Served, receiver: Receiver) -> None:
    await subscribed(service, receiver, "left")
    url = json.loads(await envelope(service, receiver, "left", 1))["UnsubscribeURL"]

    connection = service.connect()
    connection.request("POST", url.removeprefix(service.url))
    assert connection.getresponse().status == 200

    connection = service.connect()
    connection.request("GET", "/v2/queues/left/subscriptions", headers=HEADERS)
    [subscription] = json.loads(connection.getresponse().read())["subscriptions"]
    assert subscription["disabled"]["reason"] == "gone"
