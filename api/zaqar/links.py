"""Links to a queue and to the next page."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from api.requests import Call
from api.zaqar.query import FALSE, TRUE
from zaqar_notify.models import QueueRef

_BOOLEANS = frozenset(
    (
        "detailed",
        "with_count",
        "echo",
        "include_claimed",
        "include_delayed",
        "not_before",
        "attributes",
    )
)


def queue_href(call: Call) -> str:
    """A link to the queue or the topic that the request's path names."""
    return f"{call.prefix}{call.wire}{queue_path(call.ref)}"


def queue_path(ref: QueueRef) -> str:
    """The path of a queue or a topic, below the prefix of a version."""
    kind = "topics" if ref.is_topic else "queues"
    return f"/{kind}/{ref.public_name}"


def next_links(path: str, sent: Iterable[tuple[str, str]], marker: str | None) -> bytes:
    """The `links` array as JSON: one `next` link, or none after an empty page.

    The link repeats the parameters that were sent. Booleans are in lower case, and the marker
    stands last. All values are percent-encoded, because a client passes the link to Python's
    `str.format`.

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
    # Nearly all values are words and numbers, and this check costs a tenth of `quote`.
    return text if text.isalnum() and text.isascii() else quote(text, safe="")
