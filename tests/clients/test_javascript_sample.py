"""Zaqar's own JavaScript samples, in a real browser; only their address is another one."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Page, opened
from tests.programs import do_without
from tests.service import Service
from tests.workers.office import until
from zaqar_notify.client import Client

pytestmark = pytest.mark.client("Zaqar's tests")

OF_SAMPLES = "ws://localhost:9000"
QUEUE, PROJECT = "SampleQueue", "7530fad032ca431e9dc8ed4a5de5d99c"
WITH_SAMPLES = "zaqar==21.0.0"
LOG_IN_THE_PAGE = "console.log = text => document.body.append(text)"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the samples, from the source package of Zaqar."""
    directory = tmp_path_factory.mktemp("samples")
    options = ("--quiet", "--no-deps", "--no-binary", "zaqar", "--dest", str(directory))
    loaded = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, WITH_SAMPLES],
        capture_output=True,
        text=True,
        check=False,
    )
    if loaded.returncode != 0:
        do_without(f"{WITH_SAMPLES} can't be loaded: {loaded.stderr[-500:]}")
    [package] = directory.glob("*.tar.gz")
    with tarfile.open(package) as source:
        source.extractall(directory, filter="data")
    return directory / package.name.removesuffix(".tar.gz") / "samples" / "javascript"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service") / "data")
    service.start()
    yield service
    assert service.stop() == 0


@pytest.fixture
async def page(service: Service, tmp_path: Path) -> AsyncIterator[Page]:
    async with opened(f"{service.url}/docs", tmp_path) as page:
        await page.run(LOG_IN_THE_PAGE)
        yield page


def script(samples: Path, name: str, service: Service) -> str:
    text = (samples / name / "zaqar_sample.js").read_text()
    assert OF_SAMPLES in text
    return f"{{{text.replace(OF_SAMPLES, service.url.replace('http', 'ws'))}}}"


async def test_a_message_that_one_sample_sends_is_received_by_the_other(
    page: Page, samples: Path, service: Service
) -> None:
    await page.run(script(samples, "send_message", service))
    with Client(service.url, project=PROJECT) as client:
        await until(lambda: bool(client.messages(QUEUE).messages))

    await page.run(script(samples, "receive_message", service))
    await page.until("document.body.textContent.endsWith('Zaqar Sample')")
