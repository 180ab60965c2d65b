"""The client: one method per thing that the v2 API can do."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import msgspec
import requests

from zaqar_notify.client.claim import Claim
from zaqar_notify.client.deliveries import Deliveries
from zaqar_notify.client.errors import ServiceWarning
from zaqar_notify.client.models import (
    Message,
    Page,
    QueueStats,
    QueueSummary,
    SignedUrl,
)
from zaqar_notify.client.steering import SteeringCalls
from zaqar_notify.client.subscribing import SubscriptionCalls
from zaqar_notify.client.suppressions import SuppressionCalls
from zaqar_notify.client.transport import (
    PATIENT_PAUSES_SECONDS,
    PAUSES_SECONDS,
    Parameters,
    Transport,
)
from zaqar_notify.client.wire import (
    ClaimBody,
    MessageList,
    QueueList,
    Resources,
    Stats,
    message_path,
    metadata_pointer,
    next_marker,
    queue_path,
    raw_json,
    read,
    wire_attribute,
)

DEFAULT_URL = "http://127.0.0.1:8888"
DEFAULT_PROJECT = "default"
PAGE = 20
"""The most that a service with default limits puts on one page."""

LONGEST_WAIT = 20
WITH_ATTRIBUTES = {"attributes": True}
PATCH_TYPE = "application/openstack-messaging-v2.0-json-patch"


class Client(SubscriptionCalls, SuppressionCalls, SteeringCalls):
    """Calls of one project to one service, under one client id.

    Calls that may be repeated without harm are tried again when the connection fails or the service
    is unavailable, for a second or two. Posts are among them: each carries an idempotency key,
    so that a repeated one stores nothing twice.

    All methods raise `ServiceUnreachable` when no answer comes, and a `ServiceError` when the answer
    is an error. One thread at a time uses a client; any thread may close it.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        project: str | None = None,
        client_id: str | None = None,
        *,
        token: str | None = None,
        timeout_seconds: float = 30,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
        session: requests.Session | None = None,
        ca_file: str | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            project: None takes the token's; without a token, `DEFAULT_PROJECT`.
            token: A tenant token or Keystone's, where the service asks for one.
            client_id: A UUID; None makes one for this client. Listings with `echo=False` leave out
                messages that were posted under it.
            timeout_seconds: For an answer, beyond the time that the service was asked to wait.
            pauses_seconds: Between the tries of one call; none: every call is tried once.
            session: For proxies, certificates and the like; left open at the end.
            ca_file: PEM file of the CA that signed the service's certificate; None: those that the
                session trusts, or the file that `REQUESTS_CA_BUNDLE` names.
            on_warning: Called with the service's warning about a part of an accepted request that has no
                effect. None: it becomes a Python warning, `ServiceWarning`.
        """
        self.client_id = client_id or str(uuid.uuid4())
        headers = {"Client-ID": self.client_id}
        if project is None and not token:
            project = DEFAULT_PROJECT
        if project is not None:
            headers["X-Project-ID"] = project
        self._transport = Transport(
            url,
            headers=headers,
            token=token,
            timeout_seconds=timeout_seconds,
            pauses_seconds=pauses_seconds,
            session=session,
            ca_file=ca_file,
            on_warning=on_warning or _warn,
        )
        self.deliveries = Deliveries(self._transport)
        """The delivery log and the statistics of subscriptions."""

    @property
    def url(self) -> str:
        return self._transport.url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ping(self) -> None:
        """Ask whether the service and its store answer."""
        self._transport.send("GET", "/v2/ping")

    # Messages

    def post(
        self,
        queue: str,
        *bodies: Any,
        ttl: int | None = None,
        delay: int | None = None,
        not_before: datetime | None = None,
        attributes: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> list[str]:
        """Post one message per body, all or none, creating the queue when absent.

        Args:
            bodies: JSON values; `RawJson` for text that is JSON already.
            ttl: Life of the messages, seconds; None leaves it to the queue.
            delay: Seconds until they become visible; None leaves it to the queue.
            not_before: An aware instant, at most a year ahead, at which they become visible, and from which `ttl`
                counts. Until then, deleting them cancels them. Not together with `delay`.
            attributes: Of each of the messages: strings, numbers, lists of both, bytes, or `Attribute`.
            idempotency_key: A name for this post. A second post under it answers as the first did
                and stores nothing; without one, only this call's own retries are recognised.

        Returns:
            The messages' ids, in the order of `bodies`.
        """
        settings: dict[str, Any] = {"ttl": ttl, "delay": delay, "not_before": not_before}
        if attributes:
            settings["attributes"] = {
                name: wire_attribute(value) for name, value in attributes.items()
            }
        given = {name: value for name, value in settings.items() if value is not None}
        messages = [{"body": raw_json(body), **given} for body in bodies]
        answer = self._transport.send(
            "POST",
            f"{queue_path(queue)}/messages",
            body=msgspec.json.encode({"messages": messages}),
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        )
        resources = read(answer, Resources).resources
        return [href.rpartition("/")[2] for href in resources]

    def messages(
        self,
        queue: str,
        marker: str | None = None,
        *,
        limit: int | None = None,
        echo: bool = False,
        include_claimed: bool = False,
        include_delayed: bool = False,
        wait: int = 0,
    ) -> Page:
        """The messages after `marker`, oldest first.

        Args:
            marker: The `marker` of an earlier page, or a message's id; None begins at the oldest.
            limit: The most messages to return; None leaves it to the service (10).
            echo: Whether to include messages posted under this client's own id.
            wait: Seconds to wait for a message when there is none, at most 20.
        """
        return self._page(
            queue,
            {
                "marker": marker,
                "limit": limit,
                "echo": echo,
                "include_claimed": include_claimed,
                "include_delayed": include_delayed,
                "not_before": include_delayed or None,
            },
            wait=wait,
        )

    def tail(self, queue: str, *, from_start: bool = False) -> Iterator[Message]:
        """Follow the queue: every message posted from now on, in order, without end.

        Messages of this client's own, claimed and delayed ones come too. A restart of the service
        is waited for, half a minute.

        Args:
            from_start: Begin with the messages that are there already.
        """
        marker = None if from_start else self._newest(queue)
        return self._follow(queue, marker)

    def message(self, queue: str, message_id: str) -> Message:
        answer = self._transport.send(
            "GET",
            message_path(queue, message_id),
            parameters={**WITH_ATTRIBUTES, "not_before": True},
        )
        return read(answer, Message)

    def delete(self, queue: str, *message_ids: str, claim_id: str | None = None) -> None:
        """Delete the messages that exist among these.

        Args:
            claim_id: The claim that holds them. Without it, the service refuses to delete a single claimed
                message, and deletes several.
        """
        if len(message_ids) == 1 or claim_id is not None:
            for message_id in message_ids:
                path = message_path(queue, message_id)
                self._transport.send("DELETE", path, parameters={"claim_id": claim_id})
            return
        for start in range(0, len(message_ids), PAGE):
            some = ",".join(message_ids[start : start + PAGE])
            self._transport.send(
                "DELETE", f"{queue_path(queue)}/messages", parameters={"ids": some}
            )

    def pop(self, queue: str, limit: int = 1) -> list[Message]:
        """Remove up to `limit` visible messages and return them; they are lost if you fail."""
        answer = self._transport.send(
            "DELETE",
            f"{queue_path(queue)}/messages",
            parameters={"pop": limit, **WITH_ATTRIBUTES},
            repeatable=False,
        )
        return read(answer, MessageList).messages

    # Claims

    def claim(
        self, queue: str, *, ttl: int = 300, grace: int = 60, limit: int = 10, wait: int = 0
    ) -> Claim:
        """Lease up to `limit` visible messages, oldest first.

        Args:
            ttl: Length of the lease, seconds.
            grace: Seconds of life past the lease for messages that would expire before.
            wait: Seconds to wait for a message when there is none, at most 20.

        Returns:
            A claim, false when there was nothing to claim.
        """
        answer = self._transport.send(
            "POST",
            f"{queue_path(queue)}/claims",
            parameters={"limit": limit, "wait": wait or None, **WITH_ATTRIBUTES},
            body=msgspec.json.encode({"ttl": ttl, "grace": grace}),
            wait=wait,
        )
        claim_id, messages = None, list[Message]()
        if answer.status_code != HTTPStatus.NO_CONTENT:
            claim_id = answer.headers["Location"].rpartition("/")[2]
            messages = read(answer, MessageList).messages
        return Claim(
            self._transport, queue_path(queue), claim_id=claim_id, ttl=ttl, messages=messages
        )

    def claim_of(self, queue: str, claim_id: str) -> Claim:
        """A claim that was made before.

        Raises:
            NotFound: It has expired, or holds nothing.
        """
        path = f"{queue_path(queue)}/claims/{quote(claim_id, '')}"
        held = read(self._transport.send("GET", path), ClaimBody)
        return Claim(
            self._transport,
            queue_path(queue),
            claim_id=claim_id,
            ttl=held.ttl,
            messages=held.messages,
        )

    # Queues

    def create_queue(self, queue: str, metadata: Mapping[str, Any] | None = None) -> bool:
        """Create it with this metadata, unless it exists; whether it was created."""
        body = msgspec.json.encode(metadata or {})
        answer = self._transport.send("PUT", queue_path(queue), body=body)
        return answer.status_code == HTTPStatus.CREATED

    def queue(self, queue: str) -> dict[str, Any]:
        """Its metadata, reserved keys filled in; of a queue never created, just those."""
        return read(self._transport.send("GET", queue_path(queue)), dict[str, Any])

    def queues(
        self, *, name_contains: str | None = None, detailed: bool = False
    ) -> Iterator[QueueSummary]:
        """The project's queues by name, read page by page."""
        parameters = {"name": name_contains, "detailed": detailed, "limit": PAGE}
        for page in self._pages("/v2/queues", parameters, QueueList):
            yield from page.queues

    def update_queue(
        self, queue: str, changes: Mapping[str, Any], remove: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Set some keys of its metadata and remove others; all or none.

        Returns:
            The whole metadata, as `queue` gives it.

        Raises:
            NotFound: The queue was never created.
            Conflict: A key to remove is not there.
        """
        patch: list[dict[str, Any]] = [
            {"op": "add", "path": metadata_pointer(key), "value": value}
            for key, value in changes.items()
        ]
        patch += [{"op": "remove", "path": metadata_pointer(key)} for key in remove]
        answer = self._transport.send(
            "PATCH",
            queue_path(queue),
            body=msgspec.json.encode(patch),
            headers={"Content-Type": PATCH_TYPE},
            repeatable=not remove,
        )
        return read(answer, dict[str, Any])

    def delete_queue(self, queue: str) -> None:
        """Remove it with its messages and claims; its subscriptions stay."""
        self._transport.send("DELETE", queue_path(queue))

    def purge(
        self,
        queue: str,
        resource_types: Sequence[Literal["messages", "subscriptions"]] = (
            "messages",
            "subscriptions",
        ),
    ) -> None:
        """Remove all its messages, subscriptions or both; the queue stays."""
        body = msgspec.json.encode({"resource_types": resource_types})
        self._transport.send("POST", f"{queue_path(queue)}/purge", body=body)

    def stats(self, queue: str) -> QueueStats:
        return read(self._transport.send("GET", f"{queue_path(queue)}/stats"), Stats).messages

    def share(
        self,
        queue: str,
        *,
        paths: Sequence[str] = ("messages",),
        methods: Sequence[str] = ("GET",),
        expires_at: datetime | None = None,
    ) -> SignedUrl:
        """Access to the queue without an account; by default to read its messages for a day.

        Args:
            paths: `messages`, `claims`, `subscriptions`.
            expires_at: An aware instant.
        """
        body: dict[str, Any] = {"paths": paths, "methods": methods}
        if expires_at is not None:
            body["expires"] = expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        answer = self._transport.send(
            "POST", f"{queue_path(queue)}/share", body=msgspec.json.encode(body)
        )
        return read(answer, SignedUrl)

    def revoke_shares(self, queue: str) -> None:
        """Revoke all access to the queue that `share` gave before."""
        self._transport.send("DELETE", f"{queue_path(queue)}/share")

    def _newest(self, queue: str) -> str | None:
        newest = self.stats(queue).newest
        return newest.id if newest else None

    def _follow(self, queue: str, marker: str | None) -> Iterator[Message]:
        # Claimed and delayed messages are asked for, too: the marker moves past them, and an
        # observer that left them out now would never see them.
        every = {"limit": PAGE, "echo": True, "include_claimed": True, "include_delayed": True}
        while True:
            page = self._page(
                queue,
                {"marker": marker, **every},
                wait=LONGEST_WAIT,
                pauses_seconds=PATIENT_PAUSES_SECONDS,
            )
            yield from page.messages
            marker = page.marker

    def _page(
        self,
        queue: str,
        parameters: Parameters,
        *,
        wait: int,
        pauses_seconds: Sequence[float] | None = None,
    ) -> Page:
        answer = self._transport.send(
            "GET",
            f"{queue_path(queue)}/messages",
            parameters={**parameters, "wait": wait or None, **WITH_ATTRIBUTES},
            wait=wait,
            pauses_seconds=pauses_seconds,
        )
        page = read(answer, MessageList)
        asked_from = parameters["marker"]
        return Page(
            messages=page.messages,
            marker=next_marker(page) or (str(asked_from) if asked_from is not None else None),
        )


def _warn(sentence: str) -> None:
    warnings.warn(sentence, ServiceWarning, stacklevel=2)
