"""Deliveries over HTTP, to a receiver on a real socket."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from sinks.guard import AddressGuard
from sinks.headers import may_set
from sinks.heads import Unusable, request_template
from sinks.trust import TrustSink
from sinks.webhook import WebhookSink
from tests.sinks.builders import PAYLOAD, SENT_AT, delivery_to
from tests.sinks.receiver import (
    Behaviour,
    Receiver,
    answer,
    endless,
    hang_up,
    reset,
    say,
    stay_silent,
    trickle,
)
from zaqar_notify import __version__
from zaqar_notify.delivery.installation import installation_mark
from zaqar_notify.models import MessageType, Outcome, Verdict
from zaqar_notify.rules.attributes import canonical
from zaqar_notify.settings import Settings

SECRET = "whsec_" + b64encode(b"a" * 32).decode()
EPOCH = int(SENT_AT.timestamp())
FORMER_SECRET = "whsec_" + b64encode(b"b" * 32).decode()


async def test_the_payload_is_posted_to_the_byte(webhook: WebhookSink, receiver: Receiver) -> None:
    payload = '{"body": "é\\u00e9", "x":  1}'.encode()

    outcome = await webhook.deliver(delivery_to(receiver.url("/a/b?c=d&e=%2B"), payload=payload))

    [request] = receiver.requests
    assert outcome == Outcome(Verdict.DELIVERED, status=204)
    assert request.line == "POST /a/b?c=d&e=%2B HTTP/1.1"
    assert request.body == payload


@pytest.mark.parametrize(
    "target",
    [
        "/hook?sig=a%2Fb&se=00%3A00",
        "/hook?sig=a/b&se=00:00",
        "/%2e%2E/./a/../b//c;d=%3b",
        "/%C3%A9%c3%a9?%41+%20",
        "/?",
        "/a?b?c",
        "/a?filter[x]=1&y='~!$()*,;@:",
    ],
)
async def test_what_is_behind_the_host_is_sent_byte_for_byte(
    webhook: WebhookSink, receiver: Receiver, target: str
) -> None:
    await webhook.deliver(delivery_to(receiver.url(target)))

    [request] = receiver.requests
    assert request.line == f"POST {target} HTTP/1.1"


async def test_attributes_travel_as_json_in_one_header(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    given = {"a": "é\r\nX-Injected: 1\x7f", "a.b_C": 1.5, "tags": ["x", None]}
    attributes = canonical(json.dumps(given).encode())

    await webhook.deliver(delivery_to(receiver.url(), attributes=attributes))

    [request] = receiver.requests
    sent = json.loads(request.headers["zaqar-attributes"])
    assert {name: each["value"] for name, each in sent.items()} == given
    assert "x-injected" not in request.headers


async def test_a_subscriber_can_not_forge_the_header_of_attributes(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    options = {"post_headers": {"Zaqar-Attributes": "forged"}}

    await webhook.deliver(delivery_to(receiver.url(), options=options))

    [request] = receiver.requests
    assert "zaqar-attributes" not in request.headers


async def test_headers_tell_what_was_delivered(webhook: WebhookSink, receiver: Receiver) -> None:
    await webhook.deliver(delivery_to(receiver.url(), attempt=3))

    [request] = receiver.requests
    assert request.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(PAYLOAD)),
        "user-agent": f"zaqar-notify/{__version__}",
        "webhook-id": "delivery1",
        "webhook-timestamp": str(int(SENT_AT.timestamp())),
        "zaqar-message-id": "message1",
        "zaqar-subscription-id": "subscription1",
        "zaqar-queue": "q1",
        "zaqar-attempt": "3",
        "zaqar-hops": "1",
        "zaqar-installation": installation_mark(Settings()),
    }


@pytest.mark.parametrize("secret", [SECRET, FORMER_SECRET])
async def test_a_receiver_verifies_the_signature_with_either_secret(
    webhook: WebhookSink, receiver: Receiver, secret: str
) -> None:
    await webhook.deliver(
        delivery_to(receiver.url(), secrets=[SECRET, FORMER_SECRET], sent_at=datetime.now(UTC))
    )

    [request] = receiver.requests
    assert Webhook(secret).verify(request.body, request.headers)["queue_name"] == "q1"


async def test_a_batch_is_one_signed_request_that_names_its_messages(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    payload = b"[%b, %b]" % (PAYLOAD, PAYLOAD)
    one = delivery_to(
        receiver.url(),
        payload=payload,
        attributes=canonical(b'{"of": "the first"}'),
        secrets=[SECRET],
        sent_at=datetime.now(UTC),
    )

    await webhook.deliver(msgspec.structs.replace(one, batch=("first", "second")))

    [request] = receiver.requests
    assert len(Webhook(SECRET).verify(request.body, request.headers)) == 2
    assert request.headers["zaqar-message-id"] == "first,second"
    assert "zaqar-attributes" not in request.headers


async def test_the_signature_covers_what_post_data_made(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    options = {"post_data": '{"wrapped": "$zaqar_message$"}'}

    await webhook.deliver(
        delivery_to(receiver.url(), options=options, secrets=[SECRET], sent_at=datetime.now(UTC))
    )

    [request] = receiver.requests
    assert Webhook(SECRET).verify(request.body, request.headers)["wrapped"]["queue_name"] == "q1"


@pytest.mark.parametrize(
    ("post_data", "body"),
    [
        ('{"event": "$zaqar_message$"}', b'{"event": ' + PAYLOAD + b"}"),
        ('["$zaqar_message$","$zaqar_message$"]', b"[" + PAYLOAD + b"," + PAYLOAD + b"]"),
        ("fixed é", "fixed é".encode()),
        ("$zaqar_message$", b"$zaqar_message$"),
        ("", PAYLOAD),
        (None, PAYLOAD),
        (7, PAYLOAD),
    ],
)
async def test_post_data_is_the_body_with_the_payload_put_in(
    webhook: WebhookSink, receiver: Receiver, post_data: object, body: bytes
) -> None:
    await webhook.deliver(delivery_to(receiver.url(), options={"post_data": post_data}))

    [request] = receiver.requests
    assert request.body == body


async def test_a_receiver_that_is_a_queue_again_is_told_the_hops(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    await webhook.deliver(delivery_to(receiver.url(), hops=2))

    [request] = receiver.requests
    assert request.headers["zaqar-hops"] == "3"


async def test_a_confirmation_travels_as_a_notification_does(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    kind = MessageType.SUBSCRIPTION_CONFIRMATION
    options = {"post_data": '["$zaqar_message$"]', "post_headers": {"X-Tag": "1"}}

    outcome = await webhook.deliver(
        delivery_to(receiver.url(), options=options, kind=kind, payload=b"{}")
    )

    [request] = receiver.requests
    assert outcome.verdict is Verdict.DELIVERED
    assert request.body == b"[{}]"
    assert request.headers["x-tag"] == "1"


async def test_post_data_that_grows_without_measure_is_refused(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    options = {"post_data": '"$zaqar_message$"' * 3800}

    outcome = await webhook.deliver(
        delivery_to(receiver.url(), options=options, payload=b"x" * 262144)
    )

    assert outcome.verdict is Verdict.REFUSED
    assert "the limit is 1048576" in outcome.detail
    assert not receiver.requests


async def test_post_headers_replace_content_type_and_user_agent_and_add_others(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    post_headers = {"content-type": "text/x", "User-Agent": "me", "X-Auth-Token": "t", "X-É": "no"}

    await webhook.deliver(delivery_to(receiver.url(), options={"post_headers": post_headers}))

    [request] = receiver.requests
    assert request.headers["content-type"] == "text/x"
    assert request.headers["user-agent"] == "me"
    assert request.headers["x-auth-token"] == "t"
    assert "x-é" not in request.headers


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
        "Webhook-Id",
        "webhook-timestamp",
        "WEBHOOK-SIGNATURE",
        "Zaqar-Message-Id",
        "zaqar-subscription-id",
        "Zaqar-Queue",
        "Zaqar-Attempt",
        "Zaqar-Hops",
        "Zaqar-Installation",
        "zaqar_installation",
        "ZAQAR.INSTALLATION",
        "Content_Length",
        "X-Project-ID",
        "x_project_id",
        "X-Tenant-Id",
        "Client-ID",
        "URL-Signature",
        "X-Roles",
        "X-User-Id",
        "X-Forwarded-For",
        "",
        "X Y",
        "X:Y",
        "X\r\nY",
    ],
)
async def test_post_headers_cannot_set_framing_routing_or_our_facts(
    webhook: WebhookSink, receiver: Receiver, name: str
) -> None:
    await webhook.deliver(delivery_to(receiver.url()))

    outcome = await webhook.deliver(
        delivery_to(receiver.url(), options={"post_headers": {name: "100-continue"}})
    )

    plain, asked = receiver.requests
    assert outcome.verdict is Verdict.DELIVERED
    assert asked == plain


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "\ud800", 7, None, ["a"]])
async def test_a_header_value_that_is_no_line_of_text_is_left_out(
    webhook: WebhookSink, receiver: Receiver, value: object
) -> None:
    outcome = await webhook.deliver(
        delivery_to(receiver.url(), options={"post_headers": {"X-A": value, "X-B": "b"}})
    )

    [request] = receiver.requests
    assert outcome.verdict is Verdict.DELIVERED
    assert request.headers["x-b"] == "b"
    assert "x-a" not in request.headers
    assert "x-evil" not in request.headers


async def test_too_many_post_headers_are_refused(webhook: WebhookSink, receiver: Receiver) -> None:
    post_headers = {f"X-{number}": "v" * 100 for number in range(100)}

    outcome = await webhook.deliver(
        delivery_to(receiver.url(), options={"post_headers": post_headers})
    )

    assert outcome.verdict is Verdict.REFUSED
    assert "8192 characters" in outcome.detail


async def test_user_info_becomes_basic_authentication(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    await webhook.deliver(delivery_to(receiver.url("/", user="us%40er:p%3Aß@")))

    [request] = receiver.requests
    assert request.line == "POST / HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["authorization"] == "Basic " + b64encode("us@er:p:ß".encode()).decode()


async def test_connections_are_kept_for_the_next_delivery(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    receiver.behaviour = answer(200, b"thank you")

    for _ in range(5):
        await webhook.deliver(delivery_to(receiver.url()))

    assert len(receiver.requests) == 5
    assert receiver.connections == 1


async def test_cookies_are_not_sent_back(webhook: WebhookSink, receiver: Receiver) -> None:
    receiver.behaviour = answer(204, Set_Cookie="a=b")

    await webhook.deliver(delivery_to(receiver.url(host="localhost")))
    await webhook.deliver(delivery_to(receiver.url(host="localhost")))

    assert "cookie" not in receiver.requests[1].headers


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED),
        (202, Verdict.DELIVERED),
        (299, Verdict.DELIVERED),
        (300, Verdict.TRY_LATER),
        (304, Verdict.TRY_LATER),
        (400, Verdict.REFUSED),
        (401, Verdict.REFUSED),
        (404, Verdict.REFUSED),
        (408, Verdict.TRY_LATER),
        (409, Verdict.REFUSED),
        (410, Verdict.GONE),
        (413, Verdict.REFUSED),
        (421, Verdict.TRY_LATER),
        (422, Verdict.REFUSED),
        (423, Verdict.TRY_LATER),
        (425, Verdict.TRY_LATER),
        (429, Verdict.TRY_LATER),
        (499, Verdict.REFUSED),
        (500, Verdict.TRY_LATER),
        (503, Verdict.TRY_LATER),
        (599, Verdict.TRY_LATER),
    ],
)
async def test_the_status_decides(
    webhook: WebhookSink, receiver: Receiver, status: int, verdict: Verdict
) -> None:
    receiver.behaviour = answer(status)

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert (outcome.verdict, outcome.status) == (verdict, status)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("2.0", 2),
        ("0.5", 1),
        ("1.5", 2),
        (".1", 1),
        ("7.", 7),
        ("86400", 86400),
        ("86400.5", 86400),
        ("999999", 86400),
        ("9999999999999", 86400),
        ("9" * 5000, 86400),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60),
        ("Friday, 02-Jan-26 03:05:05 GMT", 60),
        ("Fri Jan  2 03:05:05 2026", 60),
        ("Fri, 02 Jan 2026 04:05:05 +0100", 60),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0),
        ("Fri, 02 Jan 2036 03:04:00 GMT", 86400),
        ("2026-01-02T03:05:05Z", 60),
        ("2026-01-02T03:05:05.5+00:00", 61),
        ("30s", 30),
        ("1m0.5s", 61),
        ("1500ms", 2),
        ("24h1s", 86400),
        (f"{EPOCH + 60}", 60),
        (f"{EPOCH + 60}.5", 61),
        (f"{1000 * (EPOCH + 60)}", 60),
        (f"{EPOCH - 60}", 0),
        (f"{EPOCH + 90000}", 86400),
    ],
)
async def test_retry_after_is_read_in_every_form(
    webhook: WebhookSink, receiver: Receiver, retry_after: str, seconds: int
) -> None:
    receiver.behaviour = answer(429, Retry_After=retry_after)

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.verdict is Verdict.TRY_LATER
    assert outcome.retry_after_seconds == seconds


@pytest.mark.parametrize("milliseconds", [1, 60, 500, 940, 999])
async def test_a_date_to_retry_after_is_never_early(
    webhook: WebhookSink, receiver: Receiver, milliseconds: int
) -> None:
    receiver.behaviour = answer(503, Retry_After="Fri, 02 Jan 2026 03:05:05 GMT")
    sent_at = SENT_AT + timedelta(milliseconds=milliseconds)

    outcome = await webhook.deliver(delivery_to(receiver.url(), sent_at=sent_at))

    assert outcome.retry_after_seconds == 60


@pytest.mark.parametrize(
    "retry_after",
    [
        "",
        "soon",
        "-5",
        "+5",
        "1e3",
        "5 minutes",
        "60, 120",
        "\xb2",
        "Fri, 99 Jan 2026 03:04:00 GMT",
        "Fri, 02 Jan 2026 03:05:05 +99999999",
    ],
)
async def test_a_retry_after_that_cannot_be_read_is_a_pause_all_the_same(
    webhook: WebhookSink, receiver: Receiver, retry_after: str
) -> None:
    receiver.behaviour = answer(429, Retry_After=retry_after)

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.retry_after_seconds == 60


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (503, {"Retry_After_Ms": "1500"}, 2),
        (429, {"X_Ms_Retry_After_Ms": "30000", "Retry_After": "20"}, 30),
        (404, {"X_Retry_After": "7"}, 7),
        (429, {"RateLimit_Reset": "30"}, 30),
        (429, {"X_RateLimit_Reset": f"{EPOCH + 90}"}, 90),
        (503, {"X_Rate_Limit_Reset": f"{EPOCH + 90}"}, 90),
        (429, {"X_RateLimit_Reset_After": "1.5"}, 2),
        (429, {"RateLimit_Reset": "soon"}, 60),
        (429, {"RateLimit_Reset": "30", "Retry_After": "5"}, 5),
        (500, {"RateLimit_Reset": "30", "RateLimit_Remaining": "9"}, None),
        (500, {"RateLimit_Reset": "30", "RateLimit_Remaining": "0"}, 30),
        (403, {"X_RateLimit_Reset": f"{EPOCH + 90}", "X_RateLimit_Remaining": "0"}, 90),
        (429, {"RateLimit": '"default";r=0;t=30'}, 30),
        (429, {"RateLimit": '"second";r=0;t=1, "day";r=0;t=300, "year";r=9;t=9000'}, 300),
        (429, {"RateLimit": "limit=100, remaining=0, reset=30"}, 30),
        (200, {"RateLimit": '"default";r=1;t=30'}, None),
        (200, {"RateLimit_Reset": "30", "RateLimit_Remaining": "1"}, None),
        (200, {"RateLimit_Reset": "30", "RateLimit_Remaining": "0"}, 30),
        (202, {"Retry_After": "30"}, 30),
    ],
)
async def test_headers_of_rate_limits_count_once_the_limit_is_reached(
    webhook: WebhookSink,
    receiver: Receiver,
    status: int,
    headers: dict[str, str],
    seconds: int | None,
) -> None:
    receiver.behaviour = answer(status, b"", **headers)

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.retry_after_seconds == seconds
    assert (outcome.verdict is Verdict.DELIVERED) == (status < 300)


async def test_a_refusal_at_a_rate_limit_is_still_a_refusal(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    receiver.behaviour = answer(404, RateLimit_Reset="30", RateLimit_Remaining="0")

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert (outcome.verdict, outcome.retry_after_seconds) == (Verdict.REFUSED, 30)


async def test_the_longest_of_several_retry_afters_counts(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    receiver.behaviour = answer(503, Retry_After="5", retry_After="1200", RETRY_AFTER="soon")

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.retry_after_seconds == 1200


@pytest.mark.parametrize("status", [302, 400, 403, 404, 409, 413, 423, 429, 503])
async def test_a_failure_with_retry_after_is_tried_later_whatever_the_status(
    webhook: WebhookSink, receiver: Receiver, status: int
) -> None:
    receiver.behaviour = answer(status, Retry_After="5")

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert (outcome.verdict, outcome.retry_after_seconds) == (Verdict.TRY_LATER, 5)


async def test_a_receiver_that_wants_no_more_is_believed_with_retry_after_too(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    receiver.behaviour = answer(410, Retry_After="5")

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert (outcome.verdict, outcome.retry_after_seconds) == (Verdict.GONE, None)


async def test_a_failure_shows_the_start_of_the_answer_on_one_line(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    receiver.behaviour = answer(500, b"out of\r\n\x1b[31mcheese\0 \xff" + b"!" * 5000)

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.detail == "HTTP 500"
    assert outcome.excerpt.startswith("out of [31mcheese \ufffd!!!")
    assert len(outcome.excerpt) <= 240


async def test_a_compressed_answer_is_not_unpacked(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    receiver.behaviour = answer(500, b"no gzip at all", Content_Encoding="gzip")

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.excerpt == "no gzip at all"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(
    webhook: WebhookSink, receiver: Receiver, status: int
) -> None:
    receiver.behaviour = answer(status, Location=receiver.url("/elsewhere"))

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert len(receiver.requests) == 1
    assert (outcome.verdict, outcome.status) == (Verdict.TRY_LATER, status)
    assert outcome.detail == f"HTTP {status}, and redirects are not followed"


@pytest.mark.parametrize(
    ("behaviour", "detail"),
    [
        (reset, "connection lost: Connection reset by peer"),
        (hang_up, "the connection was closed without an answer"),
        (say(b"220 mail.example ESMTP\r\n"), "the answer is not HTTP"),
        (
            say(b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n"),
            "the answer has more than 32768 bytes of headers",
        ),
    ],
)
async def test_a_broken_answer_is_tried_again(
    webhook: WebhookSink, receiver: Receiver, behaviour: Behaviour, detail: str
) -> None:
    receiver.behaviour = behaviour

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome == Outcome(Verdict.TRY_LATER, None, detail)


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("end", [b"x" * 1_000_000 + b"\r\n\r\n", b""])
async def test_the_status_line_counts_when_the_headers_have_no_end(
    webhook: WebhookSink, receiver: Receiver, status: int, end: bytes
) -> None:
    receiver.behaviour = say(b"HTTP/1.1 %d Reason\r\nX: " % status + end)

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert outcome.status == status


async def test_a_switch_of_protocols_is_no_delivery(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    receiver.behaviour = say(
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nmore"
    )

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert (outcome.verdict, outcome.status) == (Verdict.TRY_LATER, 101)
    await asyncio.wait_for(receiver.disconnected.wait(), 5)


async def test_a_receiver_that_is_down_is_tried_again(
    webhook: WebhookSink, unused_port: int
) -> None:
    outcome = await webhook.deliver(delivery_to(f"http://127.0.0.1:{unused_port}/"))

    assert outcome == Outcome(Verdict.TRY_LATER, detail="no connection: Connection refused")


async def test_a_name_that_does_not_exist_is_tried_again(webhook: WebhookSink) -> None:
    outcome = await webhook.deliver(delivery_to("http://no-such-name.invalid/"))

    assert outcome.verdict is Verdict.TRY_LATER
    assert "was not found" in outcome.detail


@pytest.mark.parametrize(
    "behaviour",
    [
        stay_silent,
        trickle(b"HTTP/1.1 100 Continue\r\nX-Slow: "),
        trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
async def test_an_answer_that_does_not_come_is_given_up(
    hasty: WebhookSink, receiver: Receiver, behaviour: Behaviour
) -> None:
    receiver.behaviour = behaviour

    outcome = await hasty.deliver(delivery_to(receiver.url()))

    assert outcome == Outcome(Verdict.TRY_LATER, detail="no answer within 0.2 s")
    await asyncio.wait_for(receiver.disconnected.wait(), 5)


async def test_a_connection_that_is_not_made_in_time_is_given_up(hasty: WebhookSink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # The port does not talk TLS; the handshake is part of connecting.
        port = listener.getsockname()[1]
        outcome = await hasty.deliver(delivery_to(f"https://127.0.0.1:{port}/"))

    assert outcome == Outcome(Verdict.TRY_LATER, detail="no connection within 0.1 s")


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, Verdict.DELIVERED), (500, Verdict.TRY_LATER)]
)
@pytest.mark.parametrize("kind", ["endless", "trickling"])
async def test_a_body_without_end_is_cut_and_the_status_counts(
    webhook: WebhookSink, receiver: Receiver, kind: str, status: int, verdict: Verdict
) -> None:
    head = f"HTTP/1.1 {status} Reason\r\nContent-Length: 99999999\r\n\r\n".encode()
    receiver.behaviour = endless(status) if kind == "endless" else trickle(head)
    started = time.monotonic()

    outcome = await webhook.deliver(delivery_to(receiver.url()))

    assert (outcome.verdict, outcome.status) == (verdict, status)
    assert len(outcome.detail) <= 240
    assert time.monotonic() - started < 4
    await asyncio.wait_for(receiver.disconnected.wait(), 5)


async def test_an_answer_before_the_body_was_read_is_an_answer(
    hasty: WebhookSink, receiver: Receiver
) -> None:
    receiver.reads_bodies = False
    receiver.behaviour = answer(413)

    outcome = await hasty.deliver(delivery_to(receiver.url(), payload=b"x" * 1_000_000))

    assert outcome.verdict is Verdict.REFUSED
    assert outcome.status == 413


async def test_a_cancelled_try_closes_its_connection(
    webhook: WebhookSink, receiver: Receiver
) -> None:
    arrived = asyncio.Event()

    async def behaviour(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    receiver.behaviour = behaviour
    attempt = asyncio.create_task(webhook.deliver(delivery_to(receiver.url())))
    await arrived.wait()

    attempt.cancel()

    with pytest.raises(asyncio.CancelledError):
        await attempt
    await asyncio.wait_for(receiver.disconnected.wait(), 5)


@pytest.mark.parametrize(
    "subscriber",
    [
        "http:",
        "http://",
        "http:///path",
        "http://:80/",
        "http://host:port/",
        "http://host:99999/",
        "http://[::1/",
        "http://2130706433/",
        "http://ho\nst/",
        "http://a%3Ab:c@host/",
        "http://*.example.org/",
    ],
)
async def test_a_subscriber_that_is_no_url_is_refused(
    webhook: WebhookSink, subscriber: str
) -> None:
    outcome = await webhook.deliver(delivery_to(subscriber))

    assert outcome.verdict is Verdict.REFUSED
    assert outcome.detail.startswith("subscriber")


async def test_without_keystone_nothing_is_sent_to_a_subscriber_that_needs_a_trust(
    receiver: Receiver,
) -> None:
    settings = Settings(delivery_allow="127.0.0.0/8")
    sink = TrustSink(settings, AddressGuard.of(settings), keystone=None)

    outcome = await sink.deliver(delivery_to(f"trust+{receiver.url()}", options={"trust_id": "t"}))
    await sink.close()

    assert (outcome.verdict, receiver.requests) == (Verdict.REFUSED, [])


@given(host=st.just("host") | st.text(), path=st.text(), user=st.text(), value=st.text())
@example(host="a b", path="", user="", value="")
@example(host="[][@", path="", user="", value="")
@example(host=".", path="", user="", value="")
def test_whatever_a_subscription_holds_the_head_is_one_request(
    host: str, path: str, user: str, value: str
) -> None:
    try:
        template = request_template(
            f"http://{user}@{host}/{path}", (("X-A", value),) * may_set("X-A", value)
        )
    except Unusable:
        return
    lines = template.head.split(b"\r\n")

    assert re.fullmatch(rb"POST /[!-~]* HTTP/1\.1", lines[0])
    assert re.fullmatch(rb"Host: [!-~]+", lines[1])
    assert all(re.fullmatch(rb"[A-Za-z-]+: [^\x00-\x1f\x7f]*", line) for line in lines[1:-1])
    assert not lines[-1]


async def test_credentials_do_not_show_in_details(webhook: WebhookSink, unused_port: int) -> None:
    addresses = [f"127.0.0.1:{unused_port}", "host:99999", "2130706433", "no-such-name.invalid"]

    outcomes = [
        await webhook.deliver(delivery_to(f"http://user:hunter2@{address}/"))
        for address in addresses
    ]

    assert not [outcome for outcome in outcomes if "hunter2" in outcome.detail]


async def test_a_closed_sink_may_be_closed_again(webhook: WebhookSink, receiver: Receiver) -> None:
    await webhook.deliver(delivery_to(receiver.url()))

    await webhook.close()
    await webhook.close()

    await asyncio.wait_for(receiver.disconnected.wait(), 5)
