"""Dead letters: messages that were claimed too often leave their queue, inside the claim that meets them."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from zaqar_notify.models import DeadLetter, Leaving
from zaqar_notify.storage.base import Carrier
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.sqlite.appending import Appending
from zaqar_notify.storage.sqlite.database import Row
from zaqar_notify.storage.sqlite.message_rows import SERIAL, opened_or_refused, to_leaving
from zaqar_notify.storage.sqlite.queue_rows import QueueRow, QueueRows
from zaqar_notify.storage.sqlite.removals import take_out


class DeadLettering:
    def __init__(self, rows: QueueRows, appending: Appending, sealing: Sealing) -> None:
        self._rows = rows
        self._appending = appending
        self._sealing = sealing

    def put_away(
        self,
        db: apsw.Connection,
        source: QueueRow,
        rows: Sequence[Row],
        to: DeadLetter,
        carrier: Carrier | None,
        now: int,
    ) -> None:
        """Move messages that were claimed too often, or let a carrier take them."""
        # At once: the row's id must be free when the message comes back to this queue.
        take_out(db, [row[SERIAL] for row in rows])
        if carrier is None:
            self._appending.append_moved(db, rows, source.salt, to, now)
        else:
            project = source.ref.project
            jobs = [
                self._sealing.sealed_job(project, carrier.job(self._leaving(row, source)))
                for row in rows
            ]
            outbox = self._rows.need(db, carrier.outbox)
            self._appending.append(db, outbox, jobs, project, now)

    def _leaving(self, row: Row, source: QueueRow) -> Leaving:
        clear = opened_or_refused(row, source.ref, self._sealing)
        return to_leaving(clear, source.salt)
