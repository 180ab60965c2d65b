"""A walk over every route of the application, as each kind of caller that must not get through.

It reads the route tables of `create_app`, so a new route is walked, too. A route that is open to everybody has to be
listed here. `tests/push/test_walk.py` walks over the actions of the WebSocket.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from starlette.routing import BaseRoute, WebSocketRoute

from api.app import create_app
from api.resources import Operation
from api.routing import FaultRoute, SurfaceRoute
from tests.api.conftest import PROJECT, Api, Reply, StartApi, make_token
from tests.clock import START
from tests.pools import keep
from zaqar_notify.auth.rules import RULES, Scope
from zaqar_notify.clock import new_id
from zaqar_notify.models import FlavorRef
from zaqar_notify.pools import make_flavor
from zaqar_notify.rules.signing import sign_url, wire_instant
from zaqar_notify.settings import VERSIONS
from zaqar_notify.storage.moving import journal
from zaqar_notify.storage.moving.records import Move

PUBLIC = {
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/docs/assets",
    "/openapi.json",
    # Their tokens are their credentials.
    "/v2/confirm",
    "/v2/unsubscribe",
    # For everyone who checks a signature.
    "/v2/certificates/{certificate_name}",
}
"""The routes that ask for no credentials."""
WITHOUT_RULE = {f"/{version}{slash}" for version in VERSIONS for slash in ("", "/")}
"""The home documents: with Zaqar, too, everyone with credentials may read it."""

ABSENT = {
    "message_id": "6123f4a0b1c2d3e4f5a6b7c8",
    "claim_id": "5123f4a0b1c2d3e4f5a6b7c8",
    "subscription_id": "4123f4a0b1c2d3e4f5a6b7c8",
    "queue_name": "absent",
    "topic_name": "absent",
    "token_id": "3123f4a0b1c2d3e4f5a6b7c8",
    "pool_name": "nopool",
    "flavor_name": "noflavor",
    "move_id": "nomove",
    "suppression_id": "2123f4a0b1c2d3e4f5a6b7c8",
    "delivery_id": "msg_1123f4a0b1c2d3e4f5a6b7c8",
    "certificate_name": "none.pem",
    "replay_id": "noreplay",
}
"""Names of nothing, for each parameter of a path but the project."""

READING = ("GET", "HEAD")
Headers = Mapping[str, str | None]


@dataclass(frozen=True, eq=False)
class Walked:
    """An operation of a route, and the names with which the walk fills its path."""

    method: str
    template: str
    operation: Operation

    def path(self, names: Mapping[str, str]) -> str:
        return self.template.format_map({**ABSENT, **names})

    @property
    def rule(self) -> str | None:
        return self.operation.rule

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


class Place:
    """An API with a queue of the project p1 in use, and every route that asks for credentials."""

    def __init__(self, api: Api, names: Mapping[str, str]) -> None:
        self.api = api
        self.names = names
        self.routes = [*_walked(create_app(api.service).router.routes)]

    async def call(
        self, walked: Walked, headers: Headers, names: Mapping[str, str] | None = None
    ) -> Reply:
        """Call the route as the documentation shows it, by default on things that exist."""
        body = walked.operation.body
        sent: Headers = headers if body is None else {"Content-Type": body.content_type, **headers}
        return await self.api.call(
            walked.method,
            walked.path(self.names if names is None else names),
            body=None if body is None else msgspec.json.encode(body.example),
            headers=sent,
        )

    def stored(self, directory: Path) -> list[str]:
        """All that is stored, but for the last uses of tokens and the clock. Another process reads it, because SQLite's
        locks are the process's."""
        dump = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).iterdump(), sep='\\n')"
        printed = subprocess.run(
            [sys.executable, "-c", dump, str(directory / "zaqar.db")],
            capture_output=True,
            text=True,
            check=True,
        )
        return [
            line
            for line in printed.stdout.splitlines()
            if not re.match(r'INSERT INTO "?(tokens|clock)"? ', line)
        ]


@pytest.fixture
async def place(start_api: StartApi) -> Place:
    api = await start_api(
        auth="token",
        admin_mode=True,
        versions=VERSIONS,
        signed_url_secrets="secret",
        webhook_secret="master",
    )
    return await furnished(api, token(await make_token(api, scope="admin")))


async def furnished(api: Api, owner: Headers) -> Place:
    """The API, when the owner of the project has one thing of each sort; a topic has the queue's name."""
    await keep(api.service.storage, "db1", "away://host/db1")
    await make_flavor(api.service.storage, FlavorRef(PROJECT, "gold"), ["db1"])
    queue = "/v2/queues/q"
    await api.put(queue, {"_default_message_ttl": 600}, headers=owner)
    posted = await api.post(
        f"{queue}/messages", {"messages": [{"body": "secret word"}] * 2}, headers=owner
    )
    claimed = await api.post(f"{queue}/claims?limit=1", {"ttl": 300, "grace": 60}, headers=owner)
    subscribed = await api.post(
        f"{queue}/subscriptions", {"subscriber": "https://example.org/other"}, headers=owner
    )
    await api.put("/v2/topics/q", {"_default_message_ttl": 600}, headers=owner)
    await api.post(
        "/v2/topics/q/subscriptions", {"subscriber": "https://example.org/topic"}, headers=owner
    )
    moving = Move(new_id(), PROJECT, "q", "db1", START)
    await journal.ask(api.service.storage.store, moving, now=api.service.clock.now())
    path = f"/v2/queues/q/subscriptions/{subscribed.json['subscription_id']}/replay"
    replaying = await api.post(path, {}, headers=owner)
    made = await api.service.storage.control.tokens.list(PROJECT, marker=None, limit=1)
    names = ABSENT | {
        "project_id": PROJECT,
        "queue_name": "q",
        "topic_name": "q",
        "message_id": posted.json["resources"][1].rpartition("/")[2],
        "claim_id": claimed.json["messages"][0]["href"].partition("claim_id=")[2],
        "subscription_id": subscribed.json["subscription_id"],
        "token_id": made[0].id if made else ABSENT["token_id"],
        "pool_name": "db1",
        "move_id": moving.id,
        "replay_id": replaying.json["id"],
        "flavor_name": "gold",
    }
    return Place(api, names)


def token(secret: str) -> Headers:
    return {"X-Auth-Token": secret, "X-Project-ID": None}


def _walked(routes: list[BaseRoute]) -> Iterator[Walked]:
    for route in routes:
        if isinstance(route, SurfaceRoute):
            for each in route.routes:
                resource = each.endpoint
                for method, operation in resource.by_method.items():
                    if not resource.is_open:
                        yield Walked(method, resource.path, operation)


def _open(routes: list[BaseRoute]) -> set[str]:
    found = set()
    for route in routes:
        if isinstance(route, SurfaceRoute):
            found |= {each.path for each in route.routes if each.endpoint.is_open}
        elif not isinstance(route, FaultRoute | WebSocketRoute):
            found.add(getattr(route, "path", str(route)))
    return found


def test_only_listed_routes_are_open(place: Place) -> None:
    assert _open(create_app(place.api.service).router.routes) == PUBLIC


def test_every_other_route_has_a_rule_of_the_table(place: Place) -> None:
    assert {each.template for each in place.routes if each.rule not in RULES} == WITHOUT_RULE


async def test_without_credentials_every_route_answers_401(place: Place) -> None:
    anonymous = {"X-Project-ID": PROJECT}

    replies = {each: await place.call(each, anonymous) for each in place.routes}

    assert {str(each): one.status for each, one in replies.items() if one.status != 401} == {}


@pytest.mark.parametrize("signature", ["", "0" * 64, f"1.{'0' * 64}"])
async def test_a_bad_signature_opens_no_route(place: Place, signature: str) -> None:
    owner = token(await make_token(place.api, scope="operator"))
    forged = {
        **owner,
        "URL-Signature": signature,
        "URL-Methods": "GET,HEAD,POST,PUT,PATCH,DELETE",
        "URL-Paths": "/v2",
        "URL-Expires": "2101-01-01T00:00:00",
        "X-Project-ID": PROJECT,
    }

    replies = {each: await place.call(each, forged) for each in place.routes}

    assert {str(each): one.status for each, one in replies.items() if one.status != 404} == {}


async def test_another_project_s_token_is_refused_where_the_request_names_this_one(
    place: Place, tmp_path: Path
) -> None:
    theirs = token(await make_token(place.api, project="p2", scope="admin"))
    before = place.stored(tmp_path)

    replies = {
        each: await place.call(each, {**theirs, "X-Project-ID": PROJECT}) for each in place.routes
    }

    assert {str(each): one.status for each, one in replies.items() if one.status != 403} == {}
    assert place.stored(tmp_path) == before


async def test_another_project_cannot_tell_what_exists_and_changes_nothing_of_it(
    place: Place,
) -> None:
    owner = token(await make_token(place.api, scope="admin"))
    theirs = token(await make_token(place.api, project="p2", scope="admin"))
    absent = {**ABSENT, "project_id": "p3"}
    before = await _seen_by(place, owner)

    differing = {}
    for each in sorted(place.routes, key=lambda each: each.method not in READING):
        there = _without_names(await place.call(each, theirs), place.names)
        nowhere = _without_names(await place.call(each, theirs, absent), absent)
        # Both may make a thing of the other project's own, with an id of its own.
        is_same = there[0] == nowhere[0] if each.method in ("POST", "PUT") else there == nowhere
        if not is_same or "secret word" in there[1]:
            differing[str(each)] = (there, nowhere)

    assert differing == {}
    assert await _seen_by(place, owner) == before


async def _seen_by(place: Place, headers: Headers) -> dict[str, tuple[int, str]]:
    """All that the caller reads on all routes, but for the last uses of tokens."""
    reading = [each for each in place.routes if each.method in READING]
    replies = {str(each): await place.call(each, headers) for each in reading}
    return {
        each: (one.status, re.sub('"last_used_at":[^,}]*', "", one.body.decode()))
        for each, one in replies.items()
    }


def _without_names(reply: Reply, names: Mapping[str, str]) -> tuple[int, str]:
    text = reply.body.decode()
    for name, value in names.items():
        text = re.sub(rf"\b{re.escape(value)}\b", name, text)
    return reply.status, text


async def test_a_reader_s_token_writes_nothing(place: Place, tmp_path: Path) -> None:
    reader = token(await make_token(place.api, scope="reader"))
    before = place.stored(tmp_path)

    replies = {each: await place.call(each, reader) for each in place.routes}

    permitted = {str(each) for each, one in replies.items() if one.status != 403}
    assert {each for each in permitted if not each.startswith(READING)} == set()
    assert place.stored(tmp_path) == before


async def test_a_reader_of_the_cloud_writes_nothing_under_strict_defaults(
    start_api: StartApi, tmp_path: Path
) -> None:
    api = await start_api(
        trust_proxy=True, policy_defaults="strict", admin_mode=True, versions=VERSIONS
    )
    place = await furnished(api, {"X-Roles": "admin"})
    before = place.stored(tmp_path)

    replies = {each: await place.call(each, {"X-Roles": "reader"}) for each in place.routes}

    permitted = {str(each) for each, one in replies.items() if one.status != 403}
    assert {each for each in permitted if not each.startswith(READING)} == set()
    assert place.stored(tmp_path) == before


@pytest.mark.parametrize("scope", [Scope.WRITE, Scope.ADMINISTER])
async def test_a_lesser_scope_reaches_no_route_of_administrators(
    place: Place, tmp_path: Path, scope: Scope
) -> None:
    lesser = token(await make_token(place.api, scope=scope.role))
    above = [each for each in place.routes if each.rule and RULES[each.rule].scope > scope]
    before = place.stored(tmp_path)

    replies = {each: await place.call(each, lesser) for each in above}

    assert replies
    assert {str(each): one.status for each, one in replies.items() if one.status != 403} == {}
    assert place.stored(tmp_path) == before


@pytest.mark.parametrize("shared", ["messages", "claims", "subscriptions"])
async def test_a_signature_opens_its_path_and_no_other(
    place: Place, tmp_path: Path, shared: str
) -> None:
    path = f"/v2/queues/q/{shared}"
    signed = _signed(place.api, path)
    others = [
        each for each in place.routes if not f"{each.path(place.names)}/".startswith(f"{path}/")
    ]
    before = place.stored(tmp_path)

    replies = {each: await place.call(each, signed) for each in others}

    assert {str(each): one.status for each, one in replies.items() if one.status != 404} == {}
    assert place.stored(tmp_path) == before
    assert (await place.api.get(path, headers=signed)).status in (200, 405)


def _signed(api: Api, path: str) -> Headers:
    expires = api.service.clock.host_now() + timedelta(hours=1)
    methods = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]
    return {
        "X-Project-ID": PROJECT,
        "URL-Signature": sign_url(
            "secret", paths=[path], methods=methods, project=PROJECT, expires=expires
        ),
        "URL-Methods": ",".join(methods),
        "URL-Paths": path,
        "URL-Expires": wire_instant(expires),
    }


@pytest.mark.parametrize("scope", ["reader", "member", "admin"])
async def test_a_token_for_other_queues_opens_this_one_on_no_route(
    place: Place, tmp_path: Path, scope: str
) -> None:
    confined = token(await make_token(place.api, scope=scope, queue="other*"))
    of_queue = [
        each for each in place.routes if re.search(r"\{(queue|topic)_name\}", each.template)
    ]
    before = place.stored(tmp_path)

    replies = {each: await place.call(each, confined) for each in place.routes}

    assert {
        str(each): replies[each].status for each in of_queue if replies[each].status != 403
    } == {}
    assert not [str(each) for each, one in replies.items() if b'"q"' in one.body]
    assert place.stored(tmp_path) == before
