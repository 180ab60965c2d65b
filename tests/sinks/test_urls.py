"""Reading a webhook's URL."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.urls import WebUrl, read_url
from zaqar_notify.errors import ValidationFailed

LEGAL = r"(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=])*"


def test_a_url_is_taken_apart() -> None:
    assert read_url("HTTPS://Us%40er:p%3A@Example.ORG:8443/a?b#c") == WebUrl(
        is_tls=True,
        host="example.org",
        port=8443,
        host_header="example.org:8443",
        target="/a?b",
        authorization="Basic VXNAZXI6cDo=",
    )


@pytest.mark.parametrize(
    ("url", "host", "header"),
    [
        ("http://example.org", "example.org", "example.org"),
        ("http://example.org:80", "example.org", "example.org"),
        ("http://[2001:db8::1]:81", "2001:db8::1", "[2001:db8::1]:81"),
        ("http://bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("http://a_b.example.", "a_b.example.", "a_b.example"),
        ("http://192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("http://1a.example", "1a.example", "1a.example"),
        ("http://4.example.0xg", "4.example.0xg", "4.example.0xg"),
    ],
)
def test_a_host_is_a_name_or_an_address(url: str, host: str, header: str) -> None:
    read = read_url(url)

    assert (read.host, read.host_header, read.target) == (host, header, "/")


@pytest.mark.parametrize(
    ("behind", "target"),
    [
        ("?a", "/?a"),
        ("#f", "/"),
        ("/a#f?g", "/a"),
        ("/é?ü", "/%C3%A9?%C3%BC"),
        ("/100%", "/100%25"),
        ("/%zz%4", "/%25zz%254"),
        ('/"<>^`{|}', "/%22%3C%3E%5E%60%7B%7C%7D"),
    ],
)
def test_only_what_is_illegal_is_escaped(behind: str, target: str) -> None:
    assert read_url(f"http://example.org{behind}").target == target


@given(behind=st.from_regex(LEGAL, fullmatch=True))
def test_what_is_legal_is_not_touched(behind: str) -> None:
    assert read_url(f"http://example.org/{behind}").target == f"/{behind}"


@given(behind=st.text())
def test_a_target_is_legal_and_says_what_was_written(behind: str) -> None:
    try:
        target = read_url(f"http://example.org/{behind}").target
    except ValidationFailed:
        return

    assert re.fullmatch(LEGAL, target)
    written = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", behind.partition("#")[0])
    assert unquote_to_bytes(target) == b"/" + unquote_to_bytes(written)
