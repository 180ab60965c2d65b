"""Jobs, deliveries and records are read as they were written, and the clients' bytes survive."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec
import pytest

from tests.partitions import partition
from zaqar_notify.delivery import (
    OWED_TTL_SECONDS,
    FanOut,
    Outgoing,
    OwedDelivery,
    Replay,
    confirmation_job,
    delivery_id,
    fan_out_jobs,
    held_record,
    notification,
    outgoing_messages,
    read_undelivered,
    read_work,
    replay_job,
    retry_record,
    signed_paths,
    undelivered_record,
)
from zaqar_notify.delivery.links import Purpose, read_token
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.models import (
    INTERNAL_PROJECT,
    MessageType,
    NewMessage,
    Outcome,
    QueueRef,
    Subscription,
    Verdict,
)
from zaqar_notify.rules.signing import verify_url
from zaqar_notify.settings import Settings

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
QUEUE = QueueRef("project1", "q1")
CONFIRM = "/v2/queues/q1/subscriptions/s1/confirm"
SUBSCRIPTION = Subscription(
    id="s1",
    queue=QUEUE,
    subscriber="http://receiver",
    ttl=600,
    options={},
    created_at=NOW,
    expires_at=NOW + timedelta(seconds=600),
)
SETTINGS = Settings()

BODIES = [
    b"1e999",
    b"-0.0",
    b"12345678901234567890123",
    b'{"b" : 1,\t"a":2, "b": 3}',
    b'"\\u00e9"',
    '"é😀"'.encode(),
    b"null",
    b"[]",
]


def jobs_of(
    *messages: NewMessage, settings: Settings = SETTINGS, delayed_queue: bool = False
) -> list[tuple[FanOut, NewMessage]]:
    ids = [f"m{number}" for number, _ in enumerate(messages)]
    records = fan_out_jobs(
        QUEUE,
        ids,
        messages,
        settings=settings,
        delayed_queue=delayed_queue,
        hops=2,
        request_id="r1",
    )
    jobs = []
    for _, record in records:
        job = read_work(record.body)
        assert isinstance(job, FanOut)
        jobs.append((job, record))
    return jobs


def test_what_expires_before_it_is_due_has_no_job() -> None:
    messages = [
        NewMessage(body=b"1", ttl=60, delay=60),
        NewMessage(body=b"2", ttl=60, delay=59),
        NewMessage(body=b"3", ttl=60),
    ]

    owed = [message.body for job, _ in jobs_of(*messages) for message in job.messages]

    assert sorted(map(bytes, owed)) == [b"2", b"3"]


def test_a_message_that_is_notified_at_once_may_expire_before_it_is_due() -> None:
    at_once = Settings(notify_delayed_at_once=True)

    [(job, record)] = jobs_of(NewMessage(body=b"1", ttl=60, delay=60), settings=at_once)

    assert (len(job.messages), record.delay) == (1, 0)


def one_parcel(body: bytes = b"1") -> Outgoing:
    [(job, _)] = jobs_of(NewMessage(body=body, ttl=60))
    [parcel] = outgoing_messages(job)
    return parcel


def delivery_in(message: NewMessage) -> OwedDelivery:
    work = read_work(message.body)
    assert isinstance(work, OwedDelivery)
    return work


@pytest.mark.parametrize("body", BODIES)
def test_a_body_survives_a_job_and_a_retry_byte_by_byte(body: bytes) -> None:
    parcel = one_parcel(body)
    _, retry = retry_record(parcel, SUBSCRIPTION, attempt=2, delay=5, settings=SETTINGS)
    [again] = outgoing_messages(delivery_in(retry))

    assert parcel.message.body == again.message.body == body
    assert parcel.payload == again.payload
    assert b'"body": %b, ' % body in again.payload


def test_a_job_says_what_its_post_was() -> None:
    [(job, record)] = jobs_of(NewMessage(body=b"1", ttl=60), NewMessage(body=b"2", ttl=70))

    assert (job.project, job.queue, job.hops, job.request_id) == ("project1", "q1", 2, "r1")
    assert [(each.id, each.ttl, bytes(each.body)) for each in job.messages] == [
        ("m0", 60, b"1"),
        ("m1", 70, b"2"),
    ]
    assert (record.delay, record.ttl) == (0, OWED_TTL_SECONDS)


def test_messages_are_notified_when_due_those_with_one_delay_together() -> None:
    messages = [NewMessage(body=b"%d" % delay, ttl=60, delay=delay) for delay in (0, 30, 10, 30)]

    jobs = jobs_of(*messages, delayed_queue=True)

    assert [(record.delay, [each.id for each in job.messages]) for job, record in jobs] == [
        (0, ["m0"]),
        (30, ["m1", "m3"]),
        (10, ["m2"]),
    ]


def test_one_job_notifies_at_once_when_the_setting_says_so() -> None:
    messages = [NewMessage(body=b"1", ttl=60, delay=delay) for delay in (0, 30)]

    [(job, record)] = jobs_of(*messages, settings=Settings(notify_delayed_at_once=True))

    assert record.delay == 0
    assert len(job.messages) == 2


@pytest.mark.parametrize(
    ("delay", "delayed_queue", "shown"),
    [(0, False, None), (0, True, 0), (30, True, 30), (30, False, 30)],
)
def test_receivers_see_a_delay_only_on_delayed_queues(
    delay: int, delayed_queue: bool, shown: int | None
) -> None:
    [(job, _)] = jobs_of(NewMessage(body=b"1", ttl=60, delay=delay), delayed_queue=delayed_queue)

    [parcel] = outgoing_messages(job)

    assert json.loads(parcel.payload).get("delay") == shown


def test_a_notification_has_exactly_zaqars_keys() -> None:
    message = NewMessage(body=b'{"any":"json"}', ttl=100)

    payload = notification("q1", message, delayed_queue=False)

    assert json.loads(payload) == {
        "ttl": 100,
        "body": {"any": "json"},
        "Message_Type": "Notification",
        "queue_name": "q1",
    }


def test_a_queues_jobs_stay_in_one_partition_and_queues_spread() -> None:
    names = [QueueRef("project1", f"q{number}") for number in range(100)]

    partitions = [partition_of(ref, 4) for ref in names]

    assert partitions == [partition_of(ref, 4) for ref in names]
    assert set(partitions) == {partition(number) for number in range(4)}
    assert partition_of(QUEUE, 4) == partition(2)


def test_every_record_goes_to_the_internal_project() -> None:
    parcel = one_parcel()
    records = [
        *fan_out_jobs(QUEUE, ["m1"], [NewMessage(body=b"1", ttl=60)], settings=SETTINGS),
        replay_job(SUBSCRIPTION, SETTINGS),
        retry_record(parcel, SUBSCRIPTION, attempt=2, delay=5, settings=SETTINGS),
        held_record(parcel, SUBSCRIPTION, now=NOW),
        undelivered_record(
            parcel, SUBSCRIPTION, outcome=Outcome(Verdict.REFUSED), attempts=1, now=NOW
        ),
    ]

    assert {ref.project for ref, _ in records} == {INTERNAL_PROJECT}
    assert [ref.name for ref, _ in records] == [
        "outbox.0",
        "outbox.0",
        "retry.0",
        "held.s1",
        "undelivered.s1",
    ]


def test_a_retry_keeps_what_the_job_said() -> None:
    _, record = retry_record(one_parcel(), SUBSCRIPTION, attempt=3, delay=20, settings=SETTINGS)

    delivery = delivery_in(record)

    assert record.delay == 20
    assert (delivery.attempt, delivery.hops, delivery.request_id) == (3, 2, "r1")
    assert (delivery.project, delivery.queue, delivery.subscription_id) == ("project1", "q1", "s1")


def test_a_held_delivery_begins_its_attempts_anew() -> None:
    _, record = held_record(one_parcel(), SUBSCRIPTION, now=NOW)

    assert delivery_in(record).attempt == 1
    assert record.ttl == 600 + 14 * 86400


def test_a_held_delivery_of_a_subscription_for_thousands_of_years_has_a_bound() -> None:
    eternal = msgspec.structs.replace(
        SUBSCRIPTION, expires_at=datetime(9000, 1, 1, tzinfo=UTC), ttl=220367260800
    )

    _, record = held_record(one_parcel(), eternal, now=NOW)

    assert record.ttl == OWED_TTL_SECONDS


def test_an_undelivered_record_says_why() -> None:
    outcome = Outcome(Verdict.TRY_LATER, status=503, detail="busy", excerpt="come back")
    parcel = one_parcel(b"[1]")

    _, message = undelivered_record(parcel, SUBSCRIPTION, outcome=outcome, attempts=15, now=NOW)
    record = read_undelivered(message.body)

    assert (record.verdict, record.status) == (Verdict.TRY_LATER, 503)
    assert record.detail == "busy: come back"
    assert (record.attempts, record.given_up_at, record.message_id) == (15, NOW, "m0")
    assert bytes(record.payload) == parcel.payload
    assert message.ttl == 14 * 86400


def test_a_replay_names_its_subscription() -> None:
    _, record = replay_job(SUBSCRIPTION, SETTINGS)

    assert read_work(record.body) == Replay(1, "project1", "q1", "s1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"job": "fan_out"}',
        b'{"job": "later", "version": 1}',
        b'{"job": "replay", "version": 99, "project": "", "queue": "", "subscription_id": ""}',
    ],
)
def test_a_malformed_or_later_job_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its sentence is the JSON reader's
        read_work(body)


def test_a_delivery_id_is_stable_and_fit_for_a_signature() -> None:
    first = delivery_id("s1", "m1")

    assert first == delivery_id("s1", "m1") == "msg_7d0c35222f9dc64e41ae5aaee9d2b09e"
    assert len({first, delivery_id("s1", "m2"), delivery_id("s2", "m1")}) == 3
    assert "." not in first


@pytest.mark.parametrize(
    ("kind", "sentence", "expires"),
    [
        (
            MessageType.SUBSCRIPTION_CONFIRMATION,
            "You have chosen to subscribe to the queue: q1",
            "2030-01-02T03:14:05",
        ),
        (
            MessageType.UNSUBSCRIBE_CONFIRMATION,
            "You have unsubscribed successfully to the queue: q1, "
            "you can resubscribe it by using confirmed=True.",
            "2030-01-02T04:04:05",
        ),
    ],
)
def test_a_confirmation_carries_what_confirms_it(
    kind: MessageType, sentence: str, expires: str
) -> None:
    settings = Settings.model_validate(
        {"signed_url_secrets": "key", "public_url": "https://host/prefix/"}
    )

    ref, record = confirmation_job(SUBSCRIPTION, kind, path=CONFIRM, settings=settings, now=NOW)
    delivery = delivery_in(record)
    [parcel] = outgoing_messages(delivery)
    payload = json.loads(parcel.payload)

    signature = payload.pop("URL-Signature")
    link = payload.pop("SubscribeURL")
    path, whose = signed_paths(CONFIRM, SUBSCRIPTION)
    assert path == CONFIRM
    assert payload == {
        "WSGISubscribeURL": f"https://host/prefix{path}",
        "WebSocketSubscribeURL": f"wss://host/prefix{path}",
        "Message_Type": kind.value,
        "Message": sentence,
        "URL-Methods": "PUT",
        "URL-Paths": f"{path},{whose}",
        "X-Project-ID": "project1",
        "URL-Expires": expires,
        "SubscribeBody": {"confirmed": True},
        "UnsubscribeBody": {"confirmed": False},
        "queue_name": "q1",
    }
    token = link.removeprefix("https://host/prefix/v2/confirm?token=")
    read_token(token, Purpose.CONFIRM, settings, now=NOW).check(SUBSCRIPTION)
    verify_url(
        ["key"],
        signature=signature,
        paths_header=f"{path},{whose}",
        methods_header="PUT",
        expires_header=expires,
        project="project1",
        method="PUT",
        path=path,
        now=NOW,
    )
    assert (ref.name, delivery.kind, delivery.attempt) == ("outbox.0", kind, 1)


def test_a_confirmation_without_public_url_has_no_link() -> None:
    settings = Settings.model_validate({"signed_url_secrets": "key"})

    kind = MessageType.SUBSCRIPTION_CONFIRMATION
    _, record = confirmation_job(SUBSCRIPTION, kind, path=CONFIRM, settings=settings, now=NOW)

    assert b"WSGISubscribeURL" not in record.body


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"public_url": "http://host:8888/"}, f"ws://host:8888{CONFIRM}"),
        ({"public_url": "https://host", "websocket_url": "ws://h:9000"}, f"ws://h:9000{CONFIRM}"),
        ({"websocket_url": "wss://host:9000/"}, f"wss://host:9000{CONFIRM}"),
        ({"public_url": "https://host", "websocket": False}, None),
    ],
)
def test_a_confirmation_names_the_address_of_the_websocket(
    fields: dict[str, object], url: str | None
) -> None:
    settings = Settings.model_validate({"signed_url_secrets": "key", **fields})

    kind = MessageType.SUBSCRIPTION_CONFIRMATION
    _, record = confirmation_job(SUBSCRIPTION, kind, path=CONFIRM, settings=settings, now=NOW)

    [parcel] = outgoing_messages(cast(OwedDelivery, read_work(record.body)))
    assert json.loads(parcel.payload).get("WebSocketSubscribeURL") == url
