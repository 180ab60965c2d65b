"""The base of the client's calls."""

from __future__ import annotations

from collections.abc import Iterator

from zaqar_notify.client.transport import Parameters, Transport
from zaqar_notify.client.wire import ListingT, next_marker, read


class Calls:
    """Calls over one transport, which the client makes."""

    _transport: Transport

    def _pages(
        self, path: str, parameters: Parameters, shape: type[ListingT]
    ) -> Iterator[ListingT]:
        """The pages of a listing, each read when it is asked for."""
        marker = None
        while True:
            answer = self._transport.send("GET", path, parameters={**parameters, "marker": marker})
            page = read(answer, shape)
            yield page
            marker = next_marker(page)
            if marker is None:
                return
