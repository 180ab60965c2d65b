"""Addresses whose owners unsubscribed from the project's mails."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from zaqar_notify.client.calls import Calls
from zaqar_notify.client.models import Suppression
from zaqar_notify.client.wire import SuppressionList

PATH = "/v2/suppressions"
PAGE = 100


class SuppressionCalls(Calls):
    def suppressions(self, subscriber: str | None = None) -> Iterator[Suppression]:
        """The addresses that have unsubscribed, read page by page.

        Args:
            subscriber: Only of this one, such as `mailto:user@example.org`.
        """
        parameters = {"limit": PAGE, "subscriber": subscriber}
        for page in self._pages(PATH, parameters, SuppressionList):
            yield from page.suppressions

    def remove_suppression(self, suppression_id: str) -> None:
        """Let the address get mails again: its owner has asked for that. No error if there is none."""
        self._transport.send("DELETE", f"{PATH}/{quote(suppression_id, '')}")
