"""A queue's own schema: posts that do not fit are refused, whichever way they come."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from tests.api.conftest import Api, StartApi
from tests.api.test_encryption import KEY
from zaqar_notify.rules.json_schema import Schema, Unfit
from zaqar_notify.settings import VERSIONS

PATCH = {"Content-Type": "application/openstack-messaging-v2.0-json-patch"}
ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer", "minimum": 1}},
}


async def make(api: Api, schema: Any = ORDER, path: str = "/v2/queues/q", **metadata: Any) -> None:
    made = await api.put(path, {"_message_schema": schema, **metadata})
    assert made.status in (201, 204), made


async def post(api: Api, *bodies: Any, queue: str = "q", **options: Any) -> Any:
    document = {"messages": [{"body": body, "ttl": 300} for body in bodies]}
    return await api.post(f"/v2/queues/{queue}/messages", document, **options)


async def count(api: Api, queue: str = "q") -> int:
    stats = await api.get(f"/v2/queues/{queue}/stats")
    total: int = stats.json["messages"]["total"]
    return total


async def test_a_refusal_names_message_place_and_rule_and_nothing_is_stored(api: Api) -> None:
    await make(api)

    refused = await post(api, {"id": 1}, {"id": 0})
    taken = await post(api, {"id": 1}, {"id": 2})

    assert refused.status == 400
    assert refused.json["description"] == (
        "messages[1] does not fit the _message_schema of queue 'q': $.id breaks #/properties/id/minimum: 1"
    )
    assert taken.status == 201
    assert await count(api) == 2


async def test_a_changed_schema_holds_for_the_next_post(api: Api) -> None:
    await make(api)
    await post(api, {"id": 1})

    async def change(op: str, **fields: Any) -> None:
        step = {"op": op, "path": "/metadata/_message_schema", **fields}
        assert (await api.patch("/v2/queues/q", [step], headers=PATCH)).status == 200

    await change("replace", value={"type": "string"})
    statuses = [(await post(api, body)).status for body in ({"id": 1}, "text")]
    await change("remove")
    statuses += [(await post(api, body)).status for body in ({"id": 0}, 5)]

    assert statuses == [400, 201, 201, 201]


@pytest.mark.parametrize("path", ["/v1/queues/q/messages", "/v1.1/queues/q/messages"])
async def test_former_versions_are_held_to_it(start_api: StartApi, path: str) -> None:
    api = await start_api(versions=VERSIONS)
    await make(api)
    messages = [{"body": {"id": 0}, "ttl": 300}]

    refused = await api.post(path, messages if "/v1/" in path else {"messages": messages})

    assert refused.status == 400
    assert "_message_schema" in refused.json["description"]


async def test_a_topic_has_one_too(api: Api) -> None:
    await make(api, path="/v2/topics/t")

    refused = await api.post("/v2/topics/t/messages", {"messages": [{"body": {"id": 0}}]})

    assert refused.status == 400


async def test_messages_of_an_encrypted_queue_are_checked_in_clear(start_api: StartApi) -> None:
    api = await start_api(encryption_keys=KEY)
    await make(api, _enable_encrypt_messages=True)

    assert (await post(api, {"id": 0})).status == 400
    assert (await post(api, {"id": 1})).status == 201


async def test_a_repeated_post_is_answered_although_it_fits_no_more(api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    first = await post(api, "text", headers=key)
    await make(api)
    await api.patch(
        "/v2/queues/q",
        [{"op": "add", "path": "/metadata/_message_schema", "value": ORDER}],
        headers=PATCH,
    )

    again = await post(api, "text", headers=key)

    assert (again.status, again.json) == (201, first.json)
    assert (await post(api, "text")).status == 400


async def test_a_dead_letter_passes(api: Api) -> None:
    await make(api, path="/v2/queues/dead")
    await api.put("/v2/queues/q", {"_dead_letter_queue": "dead", "_max_claim_count": 0})
    await post(api, "text")

    await api.post("/v2/queues/q/claims", {"ttl": 60, "grace": 60})

    assert await count(api, "dead") == 1


@pytest.mark.parametrize(
    "schema", [5, {"type": "text"}, {"$ref": "https://example.org/s"}, {"pattern": "(?=a)"}]
)
async def test_a_queue_takes_no_schema_that_can_not_be_used(api: Api, schema: Any) -> None:
    made = await api.put("/v2/queues/q", {"_message_schema": schema})

    assert made.status == 400
    assert "_message_schema" in made.json["description"]


async def test_a_schema_is_not_too_large(api: Api) -> None:
    made = await api.put("/v2/queues/q", {"_message_schema": {"enum": ["x" * 33_000]}})

    assert made.status == 400
    assert "at most 32768 are allowed" in made.json["description"]


async def test_a_long_check_lets_other_requests_be_answered(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check ends only when another request was answered: in the event loop it would never end."""
    answered = threading.Event()

    def slowly(_schema: Schema, _texts: object) -> tuple[int, Unfit] | None:
        assert answered.wait(30)
        return None

    monkeypatch.setattr(Schema, "unfit_slowly", slowly)
    await make(api, {"items": {"type": "integer"}})
    posting = asyncio.create_task(post(api, list(range(10_000))))

    assert await count(api) == 0
    answered.set()

    assert (await posting).status == 201


async def test_a_refusal_leaves_no_word_of_the_body_in_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await make(api, {"additionalProperties": False})

    refused = await post(api, {"confidential": "secret words"})

    assert "$.confidential" in refused.json["description"]
    assert not [record for record in caplog.records if "confidential" in str(vars(record))]


async def test_what_the_process_knows_of_other_queues_changes_nothing(api: Api) -> None:
    await make(api, {"type": "string"})
    await make(api, {"type": "integer"}, path="/v2/queues/other")

    statuses = [
        (await post(api, body, queue=queue)).status
        for _ in range(2)
        for queue in ("q", "other")
        for body in ("text", 5)
    ]

    assert statuses == [201, 400, 400, 201] * 2
