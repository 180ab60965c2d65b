"""Links: to a queue, and to where the next page begins."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from api.requests import Call
from api.v2.query import FALSE, TRUE
from zaqar_notify.models import Subscription

_BOOLEANS = frozenset(("detailed", "with_count", "echo", "include_claimed", "include_delayed"))


def queue_href(call: Call) -> str:
    """A link to the queue that the request's path names."""
    return queue_path(call.ref.name, call.prefix)


def queue_path(name: str, prefix: str = "") -> str:
    """Where a queue is, behind the prefix of the public URL."""
    return f"{prefix}/v2/queues/{name}"


def confirmation_path(subscription: Subscription) -> str:
    """Where a subscription is confirmed, below the public URL."""
    return f"{queue_path(subscription.queue.name)}/subscriptions/{subscription.id}/confirm"


def next_links(path: str, sent: Iterable[tuple[str, str]], marker: str | None) -> bytes:
    """The `links` array, JSON: one `next`, or none behind an empty page.

    The link repeats the parameters that were sent, with booleans in lower case and the marker last,
    everything percent-encoded: a client runs it through Python's `str.format`.

    Args:
        marker: The position of the page's last item; None for an empty page.
    """
    if marker is None:
        return b"[]"
    parameters = [
        f"{_quoted(name)}={_quoted(_canonical(name, value))}"
        for name, value in sent
        if name != "marker"
    ]
    parameters.append(f"marker={_quoted(marker)}")
    return f'[{{"rel":"next","href":"{path}?{"&".join(parameters)}"}}]'.encode("ascii")


def _canonical(name: str, value: str) -> str:
    if name not in _BOOLEANS:
        return value
    if value in TRUE:
        return "true"
    return "false" if value in FALSE else value


def _quoted(text: str) -> str:
    # Nearly all are words and numbers, and looking costs a tenth of quoting.
    return text if text.isalnum() and text.isascii() else quote(text, safe="")
