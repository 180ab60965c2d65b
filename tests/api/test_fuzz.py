"""No request makes the service fail, and a refused request changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from api.app import create_app
from tests.api.conftest import CLIENT_ID
from tests.api.documented import DOCUMENTATION
from tests.api.surfaces import RESOURCES
from tests.clock import ManualClock
from tests.doorbell import SilentDoorbell
from tests.kinds import KINDS
from zaqar_notify.models import FlavorRef, QueueRef
from zaqar_notify.pools import AskedPool, make_flavor, register_pool, remove_flavor
from zaqar_notify.service import Service
from zaqar_notify.settings import VERSIONS, Settings
from zaqar_notify.storage.registry import open_storage

QUEUES = ("q", "r", "~q")
STATUSES = {200, 201, 202, 204, 300, 400, 403, 404, 405, 406, 409, 415}

words = st.sampled_from(
    [
        "messages",
        "body",
        "ttl",
        "delay",
        "grace",
        "limit",
        "subscriber",
        "options",
        "confirmed",
        "paths",
        "methods",
        "expires",
        "resource_types",
        "uri",
        "weight",
        "flavor",
        "pool_list",
        "capabilities",
        "_flavor",
        "p1",
        "f",
        "mysql://user:pw@host/db",
        "op",
        "path",
        "value",
        "_retry_policy",
        "_default_message_ttl",
        "_max_claim_count",
        "_dead_letter_queue",
        "_default_message_delay",
        "_max_messages_post_size",
        "subscriptions",
        "post_headers",
        "GET",
        "add",
        "replace",
        "remove",
        "/metadata/a",
        "http://example.org/",
        "queue:r",
        "2200-01-01T00:00:00",
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([-1, 0, 1, 20, 21, 59, 60, 900, 3600, 2**63 - 1, 2**63, 2**64])
    | st.integers()
    | st.floats()
    | words
    | st.text(max_size=5)
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
posts = st.builds(
    lambda messages: {"messages": messages},
    st.lists(
        st.fixed_dictionaries({}, optional={"body": documents, "ttl": scalars, "delay": scalars}),
        max_size=3,
    ),
)
patches = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "op": st.sampled_from(["add", "replace", "remove"]) | scalars,
            "path": words.map(lambda word: f"/metadata/{word}") | scalars,
            "value": documents,
        },
    ),
    max_size=3,
)
texts = (documents | posts | patches).map(lambda value: json.dumps(value).encode())
bodies = st.one_of(
    st.just(b""),
    texts,
    st.binary(max_size=20),
    st.tuples(texts, st.binary(max_size=3)).map(b"".join),
    texts.flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end])),
)

PAGES = ("/v2/confirm", "/v2/unsubscribe")

values = st.sampled_from(["", "0", "1", "20", "21", "-1", "true", "None", "a,b", "x"]) | st.text(
    max_size=8
)
parameters = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "marker",
                "limit",
                "echo",
                "include_claimed",
                "include_delayed",
                "ids",
                "pop",
                "name",
                "claim_id",
                "claim_ids",
                "detailed",
                "with_count",
                "attributes",
                "not_before",
                "outcome",
                "since",
                "until",
                "queue",
                "topic",
                "subscription",
                "message",
                "subscriber",
                "token",
                "colour",
            ]
        ),
        values,
    ),
    max_size=4,
)
queries = parameters.map(
    lambda pairs: "&".join(f"{name}={quote(value)}" for name, value in pairs).encode()
) | st.binary(max_size=20)

latin = st.text(st.characters(max_codepoint=255), max_size=12).map(
    lambda text: text.encode("latin-1")
)
headers = st.dictionaries(
    st.sampled_from(
        b"accept content-type idempotency-key client-id x-project-id "
        b"url-signature url-paths url-methods url-expires".split()
    ),
    latin | st.sampled_from([b"application/json", b"*/*", b"k", b"GET", b"2200-01-01T00:00:00"]),
    max_size=2,
)


class Fuzzed:
    """A service in which each request meets a project of its own, with a little in it."""

    def __init__(self, runner: asyncio.Runner, service: Service) -> None:
        self.service = service
        self._runner = runner
        self._app: ASGIApp = create_app(service)
        self._projects = count()

    def meet(
        self,
        method: str,
        template: str,
        word: str,
        query: bytes,
        given: dict[bytes, bytes],
        body: bytes,
    ) -> None:
        self._runner.run(self._meet(method, template, word, query, given, body))

    async def _meet(
        self,
        method: str,
        template: str,
        word: str,
        query: bytes,
        given: dict[bytes, bytes],
        body: bytes,
    ) -> None:
        number = next(self._projects)
        project = f"p{number}"
        # The pool is of a flavor of this project alone, so it can't be deleted.
        await make_flavor(self.service.storage, FlavorRef(project, "f"), ["p1"])
        await remove_flavor(self.service.storage, FlavorRef(f"p{number - 1}", "f"))
        known = await self._furnish(project)
        before = await self._contents(project)
        path = template.format(**{name: word or one for name, one in known.items()})

        status, answer = await self._call(project, method, path, query, given, body)

        assert status in STATUSES, (status, answer)
        if status >= 400:
            assert await self._contents(project) == before
        if template != "/" and not template.startswith("/v2"):
            return  # Another wire has forms of its own.
        if template in PAGES:
            return  # They answer people.
        if status >= 400 and status != 406 and method != "HEAD":
            assert json.loads(answer)["title"]
        elif answer:
            json.loads(answer)

    async def _furnish(self, project: str) -> dict[str, str]:
        posted = b'{"messages": [{"body": 1}, {"body": 2}]}'
        subscriber = b'{"subscriber": "http://example.org/hook"}'
        _, messages = await self._call(project, "POST", "/v2/queues/q/messages", body=posted)
        await self._call(project, "POST", "/v2/topics/q/messages", body=posted)
        _, claimed = await self._call(project, "POST", "/v2/queues/q/claims", b"limit=1")
        _, subscribed = await self._call(
            project, "POST", "/v2/queues/q/subscriptions", body=subscriber
        )
        return {
            "queue_name": "q",
            "topic_name": "q",
            "message_id": json.loads(messages)["resources"][0].rpartition("/")[2],
            "claim_id": json.loads(claimed)["messages"][0]["href"].rpartition("=")[2],
            "subscription_id": json.loads(subscribed)["subscription_id"],
            "project_id": project,
            "token_id": "0" * 32,
            "pool_name": "p1",
            "flavor_name": "f",
            "move_id": "0" * 32,
            "replay_id": "0" * 32,
            "suppression_id": "0" * 64,
            "delivery_id": f"msg_{'0' * 32}",
            "certificate_name": "0.pem",
        }

    async def _contents(self, project: str) -> list[object]:
        storage, now = self.service.storage, self.service.clock.now()
        contents: list[object] = [
            await storage.control.pools.read(),
            await storage.queues.list(project, marker=None, limit=100),
            await storage.queues.list(project, marker=None, limit=100, topics=True),
        ]
        for name in QUEUES:
            ref = QueueRef(project, name)
            contents.append(
                await storage.messages.page(
                    ref,
                    marker=None,
                    limit=100,
                    now=now,
                    include_claimed=True,
                    include_delayed=True,
                )
            )
            contents.append(await storage.subscriptions.list(ref, marker=None, limit=100, now=now))
        return contents

    async def _call(
        self,
        project: str,
        method: str,
        path: str,
        query: bytes = b"",
        given: dict[bytes, bytes] | None = None,
        body: bytes = b"",
    ) -> tuple[int, bytes]:
        sent = {
            b"host": b"x",
            b"client-id": CLIENT_ID.encode(),
            b"x-project-id": project.encode(),
            b"content-length": b"%d" % len(body),
        }
        answer: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            answer.append(message)

        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": list((sent | (given or {})).items()),
            "http_version": "1.1",
            "root_path": "",
        }
        await self._app(scope, receive, send)
        DOCUMENTATION.check(
            method,
            path,
            sent=body,
            status=answer[0]["status"],
            content_type=dict(answer[0]["headers"]).get(b"Content-Type", b"").decode(),
            body=answer[1]["body"],
        )
        return answer[0]["status"], answer[1]["body"]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    path = tmp_path_factory.mktemp("fuzz") / "zaqar.db"
    with asyncio.Runner() as runner:
        storage = runner.run(open_storage(f"sqlite://{path}"))
        service = Service(
            storage=storage,
            settings=Settings(
                auth="none",
                webhook_secret="master",
                signed_url_secrets="secret",
                require_confirmation=True,
                enable_checksum=True,
                versions=VERSIONS,
                admin_mode=True,
            ),
            clock=ManualClock(),
            doorbell=SilentDoorbell(),
            kinds=KINDS,
        )
        pool = AskedPool(f"sqlite://{path}.pool", weight=0)
        runner.run(register_pool(storage, service.settings, "p1", pool, now=service.clock.now()))
        yield Fuzzed(runner, service)
        runner.run(storage.close())


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]),
    template=st.sampled_from([resource.path for resource in RESOURCES]),
    word=st.just("") | st.text(min_size=1, max_size=6),
    query=queries,
    given=headers,
    body=bodies,
)
def test_no_request_makes_us_fail_and_no_refusal_leaves_a_trace(
    fuzzed: Fuzzed,
    method: str,
    template: str,
    word: str,
    query: bytes,
    given: dict[bytes, bytes],
    body: bytes,
) -> None:
    fuzzed.meet(method, template, word, query, given, body)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    operation=st.sampled_from(
        [
            (method, resource.path)
            for resource in RESOURCES
            for method, operation in resource.operations.items()
            if operation.body is not None
        ]
    ),
    patch_type=st.booleans(),
    body=bodies,
)
def test_no_body_makes_us_fail_and_no_refusal_leaves_a_trace(
    fuzzed: Fuzzed, operation: tuple[str, str], patch_type: bool, body: bytes
) -> None:
    kind = b"application/openstack-messaging-v2.0-json-patch" if patch_type else b"text/plain"

    fuzzed.meet(*operation, "", b"", {b"content-type": kind}, body)
