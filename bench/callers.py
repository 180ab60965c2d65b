"""The cost of authentication: the CPU time that a token adds to a post, a page and a claim.

All is measured in this process, without sockets, as CPU time of the event loop's thread. `none` is a whole request
under `ZAQAR_AUTH=none`, the median of all trials. A token adds the difference between its authentication and that of
`none`, each the fastest of many rounds: the two differ by less than trials of whole requests do.

    python bench/callers.py --trials 60
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop

from api.app import create_app
from api.authentication import Authenticator, authenticator_of
from api.requests import Call
from sinks.registry import load_kinds
from zaqar_notify.auth import Caller, Policy, Target, load_policy
from zaqar_notify.auth.keystone.account import Account
from zaqar_notify.auth.keystone.validator import Holder, Keystone
from zaqar_notify.auth.tokens import AskedToken, create
from zaqar_notify.operations.single import with_set_quotas_only
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage

PROJECT = "bench"
CLIENT_ID = "3381af922b9e11e3b19171861300734c"
KEYSTONE_TOKEN = "g" * 180
POST = b'{"messages": [{"body": {"order": 1}, "ttl": 300}]}'
OPERATIONS = {
    "post": ("POST", "/v2/queues/q/messages", b"", POST),
    "page": ("GET", "/v2/queues/p/messages", b"echo=true&limit=10", b""),
    "claim of nothing": (
        "POST",
        "/v2/queues/empty/claims",
        b"limit=10",
        b'{"ttl": 60, "grace": 60}',
    ),
}
AT_ONCE = 20
ROUNDS, TIMES = 50, 1000
NONE = {b"x-project-id": PROJECT.encode()}


class Silent:
    """A doorbell that nobody hears."""

    def ring(self, partition: object) -> None:
        return


async def main(trials: int, requests: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        storage = await open_storage(f"sqlite://{directory}/store.db")
        try:
            token = (await create(storage, AskedToken(PROJECT), now=storage.clock.now())).secret
            none = await judged(service_of(storage, "none"), NONE)
            kinds = {
                "token": {b"authorization": f"Bearer {token}".encode()},
                "keystone": {b"x-auth-token": KEYSTONE_TOKEN.encode()},
            }
            added = {
                kind: await judged(service_of(storage, kind), headers) - none
                for kind, headers in kinds.items()
            }
            app = create_app(service_of(storage, "none"))
            print("| operation | none, µs | token adds | keystone adds |\n|---|---|---|---|")
            for name, operation in OPERATIONS.items():
                cost = await whole(app, operation, trials, requests)
                shares = " | ".join(f"{nanoseconds / cost:.1%}" for nanoseconds in added.values())
                print(f"| {name} | {cost / 1000:.0f} | {shares} |")
            print({kind: f"{nanoseconds:.0f} ns" for kind, nanoseconds in added.items()})
        finally:
            await storage.close()


def service_of(storage: Any, auth: str) -> Service:
    settings = with_set_quotas_only(Settings(auth=auth))
    return Service(storage, settings, storage.clock, Silent(), load_kinds(settings))


async def judged(service: Service, headers: dict[bytes, bytes]) -> float:
    """Nanoseconds from a request to the policy's decision about its caller."""
    authenticator: Authenticator = authenticator_of(service, known_keystone())
    policy: Policy = load_policy(service.settings)
    call = Call(scope_of("GET", "/v2/queues/q", b"", b"", headers), nothing, b"req", "")
    target = Target(PROJECT, "q")
    fastest = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        for _ in range(TIMES):
            caller = await authenticator.authenticate(call)
            policy.permits(caller, "queues:get", target)
        fastest = min(fastest, (time.thread_time_ns() - began) / TIMES)
    return fastest


def known_keystone() -> Keystone:
    """A validator to which Keystone would say that every token is a member's of our project."""
    account = Account(
        url="http://127.0.0.1:5000/v3",
        public_url="http://127.0.0.1:5000",
        login={},
        tls=True,
        service_roles=frozenset(),
        is_service_role_required=False,
    )
    roles = frozenset({"member"})
    member = Caller(PROJECT, user="u", roles=roles, how="keystone")
    holder = Holder(member, roles, datetime.now(UTC) + timedelta(days=1))

    async def answer(_asked: object) -> Holder:
        return holder

    keystone = Keystone(account, cache_seconds=3600, timeout_seconds=5)
    keystone._known._ask = answer
    return keystone


async def whole(
    app: Any, operation: tuple[str, str, bytes, bytes], trials: int, requests: int
) -> float:
    """Nanoseconds of CPU for one request."""
    measured = []
    for _ in range(trials):
        began = time.thread_time_ns()
        for _ in range(requests // AT_ONCE):
            await asyncio.gather(*(send_to(app, *operation) for _ in range(AT_ONCE)))
        measured.append((time.thread_time_ns() - began) / requests)
    return statistics.median(measured)


async def send_to(app: Any, method: str, path: str, query: bytes, body: bytes) -> None:
    """Call the application as its server does."""
    statuses = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        statuses.append(message.get("status", 0))

    await app(scope_of(method, path, query, body, NONE), receive, send)
    assert statuses[0] < 300, statuses


def scope_of(
    method: str, path: str, query: bytes, body: bytes, identity: dict[bytes, bytes]
) -> dict[str, Any]:
    headers = {b"host": b"h", b"client-id": CLIENT_ID.encode(), **identity}
    if body:
        headers[b"content-length"] = b"%d" % len(body)
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": list(headers.items()),
        "http_version": "1.1",
        "root_path": "",
    }


async def nothing() -> Any:
    return {"type": "http.disconnect"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=60, help="trials of each operation")
    parser.add_argument("--requests", type=int, default=400, help="requests of a trial")
    arguments = parser.parse_args()
    uvloop.run(main(arguments.trials, arguments.requests))
