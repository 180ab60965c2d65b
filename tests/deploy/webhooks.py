"""Webhooks that are received in the test process, on a thread."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhooks:
    """The requests at `url`, in the order of their arrival."""

    def __init__(
        self, url: str, bodies: queue.Queue[Any], ids: dict[Any, str], tokens: dict[Any, str]
    ) -> None:
        self.url = url
        self.ids = ids
        """The `webhook-id` of each body."""
        self.tokens = tokens
        """The `X-Auth-Token` of each body; empty without one."""
        self._bodies = bodies

    def take_until(self, wanted: set[Any], *, within_seconds: float) -> set[Any]:
        """The bodies that arrived until all of `wanted` are there, or each next one is too late."""
        taken: set[Any] = set()
        while not wanted <= taken:
            try:
                taken.add(self._bodies.get(timeout=within_seconds))
            except queue.Empty:
                break
        return taken


@contextmanager
def receiving() -> Iterator[Webhooks]:
    bodies: queue.Queue[Any] = queue.Queue()
    ids: dict[Any, str] = {}
    tokens: dict[Any, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))["body"]
            ids[body] = self.headers["webhook-id"]
            tokens[body] = self.headers.get("X-Auth-Token", "")
            bodies.put(body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/hook"
            yield Webhooks(url, bodies, ids, tokens)
        finally:
            server.shutdown()
            serving.join()
