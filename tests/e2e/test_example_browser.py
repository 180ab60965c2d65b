"""`examples/browser` in a real browser, on another origin than the service; and the same stream by curl."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.e2e.browser import Page, opened
from tests.programs import program
from tests.service import Service, free_port
from tests.workers.office import until
from zaqar_notify.client import Client

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser"
CLIENT_ID = "3381af92-2b9e-11e3-b191-71861300734c"
SHOWN = "[...document.querySelectorAll('#messages li')].map(each => JSON.parse(each.textContent))"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def serving_example(port: int) -> Iterator[str]:
    handler = partial(Quiet, directory=str(EXAMPLE))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
        server.shutdown()


@pytest.fixture(scope="module")
def page_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, page_port: int) -> Iterator[Service]:
    environ = {
        "ZAQAR_CORS_ORIGINS": f"http://127.0.0.1:{page_port}",
        "ZAQAR_LOG_LEVEL": "debug",
        "ZAQAR_AUDIT": "true",
    }
    service = Service(tmp_path_factory.mktemp("service") / "data", environ=environ)
    service.start()
    yield service
    assert service.stop() == 0


async def shows(page: Page, *bodies: str) -> None:
    await page.until(f"{SHOWN}.join() === {','.join(bodies)!r}")


async def shows_at_least_once(page: Page, *bodies: str) -> None:
    await page.until(f"[...new Set({SHOWN})].join() === {','.join(bodies)!r}")


@asynccontextmanager
async def following(
    service: Service, page_port: int, profile: Path, queue: str, over: str
) -> AsyncIterator[Page]:
    """The example's page while it follows a queue, by a URL that the command of its README signs."""
    share = share_of(service, queue)
    with serving_example(page_port) as url:
        async with opened(url, profile) as page:
            await page.fill("#service", service.url)
            await page.fill("#share", share)
            await page.fill("#over", over)
            await page.submit("#open")
            yield page
    assert json.loads(share)["signature"] not in service.log.read_text()


def share_of(service: Service, queue: str) -> str:
    [command] = [
        block for block in blocks((EXAMPLE / "README.md").read_text(), "sh") if "/share" in block
    ]
    command = command.replace("http://127.0.0.1:8888", service.url).replace("/chat/", f"/{queue}/")
    answer = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True, check=True)
    return answer.stdout


async def post(page: Page, body: str) -> None:
    await page.fill("#body", body)
    await page.submit("#post")


async def test_a_page_follows_and_posts_without_a_gap_over_a_restart(
    service: Service, page_port: int, tmp_path: Path
) -> None:
    with Client(service.url, project="demo") as client:
        client.post("chat", "one")
        async with following(service, page_port, tmp_path, "chat", "events") as page:
            await shows(page, "one")
            await post(page, "two")
            await shows(page, "one", "two")

            service.restart()
            client.post("chat", "three")
            await shows(page, "one", "two", "three")


async def test_a_page_follows_and_posts_over_a_websocket_without_a_gap_over_a_restart(
    service: Service, page_port: int, tmp_path: Path
) -> None:
    with Client(service.url, project="demo") as client:
        async with following(service, page_port, tmp_path, "talk", "websocket") as page:
            await until(lambda: any(client.subscriptions("talk")))
            await post(page, "one")
            await shows_at_least_once(page, "one")

            service.restart()
            client.post("talk", "two")
            await shows_at_least_once(page, "one", "two")


def test_curl_reads_the_stream_as_it_comes(service: Service) -> None:
    headers = ("Accept: text/event-stream", f"Client-ID: {CLIENT_ID}", "X-Project-ID: demo")
    command = [program("curl"), "-sN", f"{service.url}/v2/queues/orders/messages"]
    with (
        subprocess.Popen(
            [*command, *(option for each in headers for option in ("-H", each))],
            stdout=subprocess.PIPE,
            text=True,
        ) as curl,
        Client(service.url, project="demo") as client,
    ):
        assert curl.stdout is not None
        assert curl.stdout.readline().startswith("retry: ")
        for body in ("one", "two"):
            [message_id] = client.post("orders", body)
            lines = [curl.stdout.readline() for _ in range(3)]
            assert lines[1] == f"id: {message_id}\n"
            assert json.loads(lines[2].removeprefix("data: "))["body"] == body

        service.restart()

        assert curl.wait(10) == 0  # The stream was ended, not cut.
