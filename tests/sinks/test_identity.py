"""Certificates of a subscription's own: the one it shows to its receiver, and the authorities it trusts."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from sinks.identity import TLS, check_identity
from sinks.webhook import WebhookKind, WebhookSink
from tests.sinks.builders import delivery_to
from tests.sinks.certificates import made
from tests.sinks.receiver import Receiver, receiving
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, Verdict


@asynccontextmanager
async def strict(server: Path, client: Path) -> AsyncIterator[Receiver]:
    """A receiver that answers only those with the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client)
    async with receiving(tls=context) as receiver:
        yield receiver


@pytest.fixture
def server(tmp_path: Path) -> Path:
    return made(tmp_path, "server")


@pytest.fixture
def client(tmp_path: Path) -> Path:
    return made(tmp_path, "client")


def certificate(path: Path) -> str:
    """The certificate of a file with a key and its certificate."""
    text = path.read_text()
    return text[text.index("-----BEGIN CERTIFICATE-----") :]


def key(path: Path) -> str:
    text = path.read_text()
    return text[: text.index("-----BEGIN CERTIFICATE-----")]


def identity(client: Path, server: Path) -> JsonObject:
    return {"certificate": certificate(client), "key": key(client), "ca": certificate(server)}


async def test_a_receiver_that_asks_for_a_certificate_gets_the_subscription_s(
    webhook: WebhookSink, server: Path, client: Path
) -> None:
    async with strict(server, client) as receiver:
        options = {TLS: identity(client, server)}
        outcomes = [
            await webhook.deliver(delivery_to(receiver.url(), options=options)) for _ in range(2)
        ]

    assert [outcome.verdict for outcome in outcomes] == [Verdict.DELIVERED] * 2
    assert receiver.connections == 1


async def test_a_connection_with_a_certificate_serves_no_other_subscription(
    webhook: WebhookSink, server: Path, client: Path
) -> None:
    async with strict(server, client) as receiver:
        own = delivery_to(receiver.url(), options={TLS: identity(client, server)})
        other = delivery_to(receiver.url(), options={TLS: {"ca": certificate(server)}})
        assert (await webhook.deliver(own)).verdict is Verdict.DELIVERED
        outcome = await webhook.deliver(other)

    assert outcome.verdict is Verdict.TRY_LATER
    assert len(receiver.requests) == 1


async def test_only_the_subscription_s_own_authority_is_trusted(
    webhook: WebhookSink, server: Path, client: Path
) -> None:
    async with strict(server, client) as receiver:
        options = {TLS: identity(client, client)}
        outcome = await webhook.deliver(delivery_to(receiver.url(), options=options))

    assert outcome.verdict is Verdict.TRY_LATER
    assert "not trusted" in outcome.detail


def test_the_key_of_another_certificate_is_refused(server: Path, client: Path) -> None:
    with pytest.raises(ValidationFailed, match="fit together"):
        check_identity({TLS: {"certificate": certificate(client), "key": key(server)}})


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(client: Path) -> None:
    plain = serialization.load_pem_private_key(key(client).encode(), None)
    locked = plain.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(ValidationFailed, match="no passphrase"):
        check_identity({TLS: {"certificate": certificate(client), "key": locked.decode()}})


def test_a_private_key_in_a_field_that_is_shown_is_refused(client: Path) -> None:
    both = {"certificate": client.read_text(), "key": key(client)}
    with pytest.raises(ValidationFailed, match="without a private key"):
        WebhookKind().check_options({TLS: both})


@pytest.mark.parametrize(
    "value",
    [
        "PEM",
        [],
        {},
        {"certificate": "PEM"},
        {"key": "PEM"},
        {"ca": 1},
        {"ca": "no PEM"},
        {"ca": ""},
        {"ca": "\u00e9"},
        {"certificate": "x", "key": "y"},
        {"certificate": "\u0000", "key": "\ud800"},
        {"ca": "PEM", "passphrase": "x"},
    ],
)
def test_what_is_no_certificate_is_refused(value: object) -> None:
    with pytest.raises(ValidationFailed, match=TLS):
        WebhookKind().check_options({TLS: value})
