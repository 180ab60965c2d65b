"""A broker's URI is read as a client library reads it, or refused in one sentence."""

from __future__ import annotations

import ssl

import pytest

from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.broker_uri import parse

SECRET = "hunter2"


@pytest.mark.parametrize(
    "uri",
    [
        "redis://broker",
        "redis://broker:6379/0",
        "redis://:p%40%2F%23%3Fss@broker:6379/15",
        "redis://[::1]:6379/0",
        "redis://broker:6379//",
        "amqp://user:p%40ss@broker:5672//",
        "amqp://broker/a%2Fhost?heartbeat=10",
    ],
)
def test_what_a_client_can_connect_to_is_kept_as_it_is(uri: str) -> None:
    broker = parse(uri)

    assert (broker.uri, broker.tls) == (uri, None)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (f"redis:{SECRET}@broker", "names no broker that this release knows"),
        ("http://broker", "names no broker that this release knows"),
        (f"redis://:p@{SECRET}@broker:6379/0", "write @ as %40"),
        (f"redis://:{SECRET}/x@broker:6379/0", "write @ as %40"),
        (f"redis://:{SECRET}#x@broker:6379/0", "# as %23"),
        (f"amqp://u:{SECRET}?x@broker//", "write @ as %40"),
        (f"redis://broker:{SECRET}/0", "a port that is no number"),
        ("redis://broker:70000/0", "a port that is no number"),
        ("redis:///0", "names no host"),
        ("redis://", "names no host"),
        ("redis://broker/abc", "Redis numbers them"),
        ("redis://broker/0/1", "Redis numbers them"),
        (f"redis://one;redis://:{SECRET}@two", "names several brokers"),
        ("redis://broker/0?ssl_cert_reqs=none", "has TLS parameters"),
        ("rediss://broker/0?ssl_cert_reqs=perhaps", "none of required, optional, none"),
        ("rediss://broker/0?ssl_verify=yes", "an unknown TLS parameter"),
    ],
)
def test_an_unusable_address_is_refused_without_its_secrets(uri: str, said: str) -> None:
    with pytest.raises(StartRefused) as refused:
        parse(uri)

    assert str(refused.value).startswith("ZAQAR_BROKER_URI ")
    assert said in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "reqs", "checks_name"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=CERT_REQUIRED", ssl.CERT_REQUIRED, True),
        ("?ssl_cert_reqs=optional", ssl.CERT_OPTIONAL, False),
        ("?ssl_cert_reqs=none", ssl.CERT_NONE, False),
    ],
)
def test_tls_is_verified_unless_told_otherwise(
    query: str, reqs: ssl.VerifyMode, checks_name: bool
) -> None:
    redis = parse(f"rediss://broker/0{query}")
    rabbit = parse(f"amqps://broker//{query}")

    assert redis.tls == {"ssl_cert_reqs": reqs, "ssl_check_hostname": checks_name}
    assert rabbit.tls == {"cert_reqs": reqs} | ({"server_hostname": None} if checks_name else {})
    assert "ssl_" not in redis.uri + rabbit.uri


def test_certificate_files_are_handed_on() -> None:
    broker = parse("rediss://broker/0?ssl_ca_certs=%2Fca.pem&timeout=3")

    assert broker.uri == "rediss://broker/0?timeout=3"
    assert (broker.tls or {})["ssl_ca_certs"] == "/ca.pem"
