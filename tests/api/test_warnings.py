"""Fields that nothing reads: the request is taken, and its answer says so."""

from __future__ import annotations

import re
from typing import Any

import pytest

from api.v2.json_patch import PATCH_TYPE
from tests.api.conftest import Api
from tests.kinds import KINDS
from zaqar_notify.delivery.subscribers import SHARED_OPTIONS

HOOK = "https://example.org/hook"
OPTIONS = dict.fromkeys((*SHARED_OPTIONS, *(name for kind in KINDS for name in kind.options)))
_LEGAL = re.compile(r'299 - "(?:[ !#-\[\]-~]|\\["\\])*"')

CREATE, MESSAGES = ("PUT", "/v2/queues/q"), ("POST", "/v2/queues/q/messages")
SUBSCRIBE, CLAIM = ("POST", "/v2/queues/q/subscriptions"), ("POST", "/v2/queues/q/claims")


async def warned(api: Api, method: str, path: str, document: Any, **headers: str) -> list[str]:
    """The sentences of the answer's warnings, each in a header of its own."""
    reply = await api.call(method, path, document, headers=headers)
    assert reply.status in (200, 201, 204), reply
    values = [value for name, value in reply.headers.items() if name == "Warning"]
    assert all(_LEGAL.fullmatch(value) for value in values), values
    return [value.removeprefix('299 - "').removesuffix('"') for value in values]


def subscription(**options: object) -> dict[str, object]:
    return {"subscriber": HOOK, "options": options}


@pytest.mark.parametrize(
    ("call", "document", "sentences"),
    [
        (
            SUBSCRIBE,
            {"subscriber": HOOK, "tll": 60},
            ["field tll has no effect; did you mean ttl?"],
        ),
        (
            SUBSCRIBE,
            subscription(_retry_polcy={}),
            ["options: _retry_polcy has no effect; did you mean _retry_policy?"],
        ),
        (
            SUBSCRIBE,
            subscription(_other={}, post_header={}),
            [
                f"options: _other has no effect: it is not known; known are {', '.join(OPTIONS)}",
                "options: post_header has no effect; did you mean post_headers?",
            ],
        ),
        (
            SUBSCRIBE,
            subscription(_retry_policy={"minimun_delay": 5, "wait": 1}),
            [
                "_retry_policy: minimun_delay has no effect; did you mean minimum_delay?",
                "_retry_policy: wait has no effect: it is not known",
            ],
        ),
        (
            SUBSCRIBE,
            subscription(_retry_policy={"presett": "sns", "max_aeg": 5}),
            [
                "_retry_policy: presett has no effect; did you mean preset?",
                "_retry_policy: max_aeg has no effect; did you mean max_age?",
            ],
        ),
        (
            SUBSCRIBE,
            subscription(
                _retry_policy={
                    "healthyRetryPolicy": {"numRetry": 5},
                    "throttlePolicy": {"maxReceivesPerSecond": 5},
                    "sicklyRetryPolicy": None,
                }
            ),
            [
                "_retry_policy: throttlePolicy has no effect: a subscription's "
                "_max_receives_per_second bounds its rate",
                "_retry_policy: healthyRetryPolicy: numRetry has no effect; "
                "did you mean numRetries?",
            ],
        ),
        (
            CREATE,
            {
                "_retry_policy": {
                    "http": {
                        "defaultHealthyRetryPolicy": {"wait": 5},
                        "disableSubscriptionOverride": True,
                        "defaultRequestPolicy": {},
                    }
                }
            },
            [
                "_retry_policy: http: defaultRequestPolicy has no effect: a subscription's "
                "post_headers name its Content-Type",
                "_retry_policy: http: disableSubscriptionOverride has no effect; "
                "did you mean disableSubscriptionOverrides?",
                "_retry_policy: http: defaultHealthyRetryPolicy: wait has no effect: "
                "it is not known",
            ],
        ),
        (
            SUBSCRIBE,
            subscription(post_headers={"Host": "elsewhere", "X-Key": "1"}),
            ["options: post_headers Host has no effect: it is the service's to set"],
        ),
        (
            CREATE,
            {"_max_claim_cout": 3, "_retry_policy": {"maximum_dealy": 60}},
            [
                "metadata: _max_claim_cout has no effect; did you mean _max_claim_count?",
                "_retry_policy: maximum_dealy has no effect; did you mean maximum_delay?",
            ],
        ),
        (
            CREATE,
            {"default_message_ttl": 60},
            ["metadata: default_message_ttl has no effect; did you mean _default_message_ttl?"],
        ),
        (
            MESSAGES,
            {"messages": [{"body": 1, "tll": 60}, {"body": 2, "tll": 60, "dealy": 5}]},
            [
                "message: field tll has no effect; did you mean ttl?",
                "message: field dealy has no effect; did you mean delay?",
            ],
        ),
        (
            MESSAGES,
            {"messages": [{"body": 1, "ttl": 60, "delay": 60}, {"body": 2, "delay": 59}]},
            [
                "message: a delay of 60 seconds is not less than the ttl of 60: it expires before it "
                "is due, so it is never claimed or delivered, and pages show it with include_delayed only"
            ],
        ),
        (
            CREATE,
            {"_default_message_ttl": 60, "_default_message_delay": 60},
            [
                "metadata: _default_message_delay 60 is not less than _default_message_ttl 60: a "
                "message posted with neither ttl nor delay expires before it is due"
            ],
        ),
        (
            CREATE,
            {"_dead_letter_queue": "q", "_max_claim_count": 3},
            [
                "metadata: _dead_letter_queue has no effect since the queue names itself",
                "metadata: _max_claim_count has no effect since the queue names itself",
            ],
        ),
        (
            CREATE,
            {"_max_claim_count": 3, "_dead_letter_queue_messages_ttl": 60},
            [
                "metadata: _max_claim_count has no effect without _dead_letter_queue",
                "metadata: _dead_letter_queue_messages_ttl has no effect without _dead_letter_queue",
            ],
        ),
        (CLAIM, {"ttl": 60, "grase": 60}, ["field grase has no effect; did you mean grace?"]),
    ],
)
async def test_what_has_no_effect_is_said_with_the_nearest_name(
    api: Api, call: tuple[str, str], document: object, sentences: list[str]
) -> None:
    assert await warned(api, *call, document) == sentences


@pytest.mark.parametrize(
    ("call", "document"),
    [
        (
            SUBSCRIBE,
            {
                "subscriber": HOOK,
                "ttl": 60,
                "options": {
                    "_retry_policy": {"minimum_delay": 5, "maximum_delay": 60},
                    "post_headers": {"X-Key": "1"},
                    "post_data": "x",
                    "colour": "red",
                },
                "note": "x",
            },
        ),
        (
            CREATE,
            {
                "_max_claim_count": 3,
                "_dead_letter_queue": "dead",
                "_default_message_ttl": 60,
                "_default_message_delay": 59,
                "_flavor": "f",
                "colour": "red",
                "message": 1,
                "limit": 2,
            },
        ),
        (MESSAGES, {"messages": [{"body": {"tll": 1}, "ttl": 60, "delay": 0, "x": 1}]}),
        (CLAIM, {"ttl": 60, "grace": 60, "x": 1}),
    ],
)
async def test_known_fields_and_the_clients_own_cause_no_warning(
    api: Api, call: tuple[str, str], document: object
) -> None:
    assert await warned(api, *call, document) == []


async def test_a_queue_s_own_delay_may_hide_a_message(api: Api) -> None:
    await api.put("/v2/queues/q", {"_default_message_delay": 900})

    short = await warned(api, *MESSAGES, {"messages": [{"body": 1, "ttl": 900}]})
    longer = await warned(api, *MESSAGES, {"messages": [{"body": 1, "ttl": 901}]})

    assert [sentence.partition(":")[2][:51] for sentence in short] == [
        " a delay of 900 seconds is not less than the ttl of"
    ]
    assert longer == []


async def test_a_change_is_warned_of_as_well(api: Api) -> None:
    subscription_id = await api.subscribe("q", HOOK)
    await api.put("/v2/queues/q", {})
    path = f"{SUBSCRIBE[1]}/{subscription_id}"
    patch = [
        {"op": "add", "path": "/metadata/_max_claim_cout", "value": 1},
        {"op": "add", "path": "/metadata/_dead_letter_queue", "value": "dead"},
    ]

    assert await warned(api, "PATCH", path, {"ttl": 60, "opions": {}}) == [
        "field opions has no effect; did you mean options?"
    ]
    assert await warned(api, "PATCH", "/v2/queues/q", patch, **{"Content-Type": PATCH_TYPE}) == [
        "metadata: _max_claim_cout has no effect; did you mean _max_claim_count?",
        "metadata: _dead_letter_queue has no effect without _max_claim_count",
    ]


async def test_warnings_are_bounded_and_legal_whatever_a_client_writes(api: Api) -> None:
    names = [f'_{number}\r\n"\\é\x00' for number in range(1000)] + ["_" + "x" * 20000]
    document = dict.fromkeys(names, 1)

    reply = await api.put("/v2/queues/q", document)
    values = [value for name, value in reply.headers.items() if name == "Warning"]

    assert reply.status == 201
    assert len(values) == 10
    assert all(_LEGAL.fullmatch(value) for value in values), values
    assert len(await warned(api, *SUBSCRIBE, subscription(**document))) == 10


async def test_a_queue_that_subscribes_to_itself_is_told(api: Api) -> None:
    itself = await api.post("/v2/queues/q/subscriptions", {"subscriber": "queue:q"})
    other = await api.post("/v2/queues/q/subscriptions", {"subscriber": "queue:other"})

    assert "subscribes to itself" in itself.headers["Warning"]
    assert "Warning" not in other.headers
