"""What a `queue:` subscription posts has to fit the schema of its queue."""

from __future__ import annotations

from tests.clock import ManualClock
from tests.workers.office import QUEUE, Office
from tests.workers.test_queue_loops import relaying
from zaqar_notify.models import QueueRef

COPIES = QueueRef(QUEUE.project, "copies")


async def test_a_copy_that_does_not_fit_is_undelivered_with_the_rule_and_no_word_of_its_body(
    office: Office, clock: ManualClock
) -> None:
    subscription = await office.subscribe(f"queue:{COPIES.name}")
    schema = {"additionalProperties": {"type": "integer"}}
    await office.storage.queues.create(
        COPIES, metadata={"_message_schema": schema}, now=clock.now()
    )

    async with relaying(office, clock):
        await office.post(b'{"confidential": "a"}', b'{"confidential": 1}')
        await office.settled()

    assert [message.body for message in await office.all_in(COPIES)] == [b'{"confidential": 1}']
    assert [record.detail for record in await office.undelivered(subscription)] == [
        "messages[0] does not fit the _message_schema of queue 'copies': it breaks "
        '#/additionalProperties/type: "integer"'
    ]
