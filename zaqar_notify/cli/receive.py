"""`zaqar-notify receive`: a webhook receiver for trying things out. It prints each delivery."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from zaqar_notify.cli.output import printable
from zaqar_notify.errors import StartRefused
from zaqar_notify.rules.webhook_signing import is_signed

LONGEST_BODY = 1 << 20
SHOWN_HEADERS = (
    "Zaqar-Queue",
    "Zaqar-Message-Id",
    "Zaqar-Subscription-Id",
    "Zaqar-Attempt",
    "Zaqar-Attributes",
)


def receive(*, host: str, port: int, secret: str, status: int, count: int) -> None:
    """Answer every POST with `status` and print it; stop after `count` of them (0: never).

    Args:
        secret: `whsec_…`, or the public key `whpk_…`: say of each request whether it is signed with it.

    Raises:
        StartRefused: The address can't be used.
    """
    enough = threading.Event()
    left = count

    def arrived(text: str) -> None:
        nonlocal left
        print(text, flush=True)
        left -= 1
        if left == 0:
            enough.set()

    try:
        server = ThreadingHTTPServer((host, port), _handler(secret, status, arrived))
    except OSError as error:
        raise StartRefused(f"Can't listen on {host} port {port}: {error.strerror}") from error
    print(f"Waiting for webhooks on http://{host}:{server.server_port}/", flush=True)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            enough.wait()
        finally:
            server.shutdown()


def _handler(
    secret: str, status: int, arrived: Callable[[str], None]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), LONGEST_BODY))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            lines = [f"{self.command} {printable(self.path)}"]
            lines += [
                f"  {name}: {printable(self.headers[name])}"
                for name in SHOWN_HEADERS
                if name in self.headers
            ]
            if secret:
                lines.append(f"  signature: {_judge(secret, self.headers, body)}")
            arrived("\n".join([*lines, _pretty(body)]))

        def log_message(self, *_: object) -> None:
            """Requests are printed whole; a log line beside would say it twice."""

    return Handler


def _judge(secret: str, headers: Message, body: bytes) -> str:
    signatures = headers.get("webhook-signature", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not signatures or not timestamp.isdecimal():
        return "none"
    message_id = headers.get("webhook-id", "")
    return "good" if is_signed(secret, signatures, message_id, int(timestamp), body) else "BAD"


def _pretty(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        pretty = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except ValueError:
        return printable(text)
    return "\n".join(map(printable, pretty.splitlines()))
