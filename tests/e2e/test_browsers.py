"""A page of another origin calls the service from a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.e2e.browser import shown
from tests.service import Service, free_port

PAGE = """<!doctype html><pre id=out>nothing ran</pre><script>
const headers = {"Client-ID": "3381af92-2b9e-11e3-b191-71861300734c", "X-Project-ID": "p1",
                 "X-Auth-Token": "none", "Content-Type": "application/json"};
const call = (method, path, body) =>
  fetch("SERVICE" + path, {method, headers, body: body && JSON.stringify(body)});
(async () => {
  const lines = [];
  const made = await call("PUT", "/v2/queues/fromabrowser", {});
  lines.push(`made ${made.status} ${made.headers.get("Location")}`);
  const posted = await call("POST", "/v2/queues/fromabrowser/messages",
                            {messages: [{body: "hi", delay: 9999999}]});
  lines.push(`refused ${posted.status} ${(await posted.json()).title}`);
  const absent = await call("GET", "/v2/queues/fromabrowser/messages/nothing");
  lines.push(`absent ${absent.status} ${absent.headers.get("X-OpenStack-Request-Id").slice(0, 4)}`);
  document.getElementById("out").textContent = lines.join("; ");
})().catch(error => document.getElementById("out").textContent = `failed: ${error}`);
</script>"""


@contextmanager
def serving_page(port: int, service_url: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = PAGE.replace("SERVICE", service_url).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
        server.shutdown()


def seen_by_page(tmp_path: Path, allowed: str, page_port: int) -> str:
    service = Service(tmp_path / "data", environ={"ZAQAR_CORS_ORIGINS": allowed})
    service.start()
    try:
        with serving_page(page_port, service.url) as page:
            return shown(page, tmp_path / "profile")
    finally:
        service.stop()


def test_a_page_of_an_allowed_origin_writes_and_reads_answers(tmp_path: Path) -> None:
    port = free_port()

    page = seen_by_page(tmp_path, f"http://127.0.0.1:{port}", port)

    assert (
        "made 201 /v2/queues/fromabrowser; refused 400 Invalid API request; absent 404 req-" in page
    )


def test_the_browser_keeps_other_pages_from_the_service(tmp_path: Path) -> None:
    page = seen_by_page(tmp_path, "https://console.example.org", free_port())

    assert "failed: TypeError: Failed to fetch" in page
