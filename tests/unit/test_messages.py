"""The messages and jobs of a post, by the rules of its queue."""

from __future__ import annotations

import json

import msgspec

from tests.clock import ManualClock
from zaqar_notify.delivery import FanOut, outgoing_messages, read_work
from zaqar_notify.delivery.posts import ClientPost, PostedMessage
from zaqar_notify.models import QueueRef
from zaqar_notify.settings import Settings

QUEUE = QueueRef("project1", "q1")
DELAYED = {"_default_message_delay": 30}


def test_a_post_answers_for_one_queue_the_same_after_it_was_asked_about_another() -> None:
    post = ClientPost(
        QUEUE,
        [PostedMessage(msgspec.Raw(b"1"), delay=0)],
        size=1,
        client_id="client",
        idempotency_key=None,
        request_id="r1",
        hops=0,
        settings=Settings(),
        clock=ManualClock(),
    )

    messages = post.messages_for(DELAYED)
    post.messages_for({})
    [(_, job)] = post.jobs(DELAYED, ["m1"], messages)

    work = read_work(job.body)
    assert isinstance(work, FanOut)
    [parcel] = outgoing_messages(work)
    assert json.loads(parcel.payload)["delay"] == 0
