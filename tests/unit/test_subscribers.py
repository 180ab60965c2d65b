"""Subscribers and options that a subscription may have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.kinds import KINDS
from zaqar_notify.delivery.subscribers import (
    check_options,
    check_subscriber,
    check_ttl,
    check_use,
    shown_subscriber,
)
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.settings import Settings

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
WITH_MAIL = Settings(
    smtp_host="mail.example.org",
    smtp_sender="ops@example.org",
    delivery_allow="127.0.0.1/32,::1/128",
)
WITHOUT_MAIL = Settings(smtp_host="", sendmail_command="")


@pytest.mark.parametrize(
    "uri",
    [
        "http://fake:8080",
        "HTTPS://Example.org/hook?k=v&x=%20",
        "https://user:word@example.org:8443/",
        "http://[::1]:8080/a",
        "http://127.0.0.1/",
        "http://bücher.example/",
        "mailto:user@example.org",
        "MailTo:user.name+tag@localhost",
        "mailto:a@b?subject=Good%20day",
        "mailto://user@example.org",
        "mailto:user%2Btag%40example.org?cc=c@d",
        "queue:q2",
        "Queue:a.b-c_D",
        "http://example.org/" + "x" * 2029,
    ],
)
def test_a_good_subscriber_is_kept_byte_by_byte(uri: str) -> None:
    assert check_subscriber(uri, WITH_MAIL, KINDS) == uri


@pytest.mark.parametrize("uri", [None, "", 5, True, [], {}, ["http://fake"]])
def test_a_subscriber_must_be_a_string_that_is_not_empty(uri: object) -> None:
    with pytest.raises(ValidationFailed, match="subscriber must be a URI"):
        check_subscriber(uri, WITH_MAIL, KINDS)


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("http://example.org/" + "x" * 2030, "2049 characters; at most 2048"),
        ("example.org", "schemes http, https, mailto, queue"),
        ("http", "schemes http"),
        ("ftp://example.org", "schemes http"),
        ("://example.org", "schemes http"),
        (" http://example.org", "schemes http"),
        ("trust+http://example.org", "ZAQAR_AUTH has no keystone"),
        ("file:///etc/passwd", "schemes http"),
        ("http://example.org/\r\nX: 1", "control characters"),
        ("http://example.org/\t", "control characters"),
        ("http://exam\0ple.org/", "control characters"),
        ("http://example.org/\u2028", "control characters"),
        ("http://example.org/\ud800", "control characters"),
        ("http:", "name a host"),
        ("http:///path", "name a host"),
        ("http:example.org", "name a host"),
        ("https://:443/", "host or port"),
        ("https://user@/", "host or port"),
        ("http://127.1/", "neither the name of a host nor an address"),
        ("http://2130706433/", "neither the name"),
        ("http://0x7f.1/", "neither the name"),
        ("http://0177.0.0.1/", "neither the name"),
        ("http://example.0x7f/", "neither the name"),
        ("http://1.2.3/", "neither the name"),
        ("http://1.2.3.4./", "neither the name"),
        ("http://1.2.3.4.5/", "neither the name"),
        ("http://256.1.1.1/", "neither the name"),
        ("http://*.example.org/", "neither the name"),
        ("http://[fe80::1%25eth0]/", "neither the name"),
        ("http://[fe80::1%eth0]/", "neither the name"),
        ("http://[v1.x]/", "neither the name"),
        ("http://[example.org]/", "host"),
        ("http://a..example.org/", "host"),
        ("http://.example.org/", "host"),
        ("http://./", "host"),
        ("http://ex!ample.org/", "host"),
        ("http://" + "a" * 64 + ".example.org/", "host"),
        ("http://" + "a.example." * 30 + "org/", "neither the name"),
        ("http://a%3Ab:c@example.org/", "user name has a colon"),
        ("http://10.0.0.1/", "it is not public.*ZAQAR_DELIVERY_ALLOW"),
        ("https://[fe80::1]/", "not public"),
        ("https://[::ffff:10.0.0.1]/", "not public"),
        ("http://0.0.0.0/", "not public"),
        ("http://127.0.0.9:8888/", "or is denied"),
        ("http://example.org:x/", "host or port"),
        ("http://example.org:65536/", "host or port"),
        ("http://example.org:0/", "1 to 65535"),
        ("http://[::1/", "host or port"),
        ("http://exa mple.org/", "blanks"),
        ("http://good.example\\@bad.example/", "backslashes"),
        ("mailto:", "one address"),
        ("mailto:user", "one address"),
        ("mailto:usér@example.org", "one address"),
        ("mailto:a..b@example.org", "one address"),
        ("mailto:user@", "one address"),
        ("mailto:@example.org", "one address"),
        ("mailto:a@b@c", "one address"),
        ("mailto:a@b,c@d", "one address"),
        ("mailto:a@b%2Cc@d", "one address"),
        ("mailto:a@b c", "one address"),
        ("mailto:-oQ/tmp@example.org", "one address"),
        ("mailto:a@b%0d%0aBcc:c", "one address"),
        ("mailto:a@b?subject=x%0d%0aBcc:c@d", "its subject must be one line"),
        ("mailto:a@b?subject=%3D%3Futf-8%3Fq%3Fx%3D0ABcc:c@d%3F%3D", "encoded words"),
        ("mailto:a@b?subject=" + "x" * 513, "513 characters; at most 512"),
        ("mailto://", "one address"),
        ("mailto://a@b/c", "one address"),
        ("mailto:%3D?utf-8?q?x=0ABcc=3A?=@b", "one address"),
        ("mailto:%3D%3Futf-8%3Fq%3Fx=0ABcc=3A%3F=@b", "one address"),
        ("mailto:" + "a" * 65 + "@b", "one address"),
        ("mailto:a@b-", "one address"),
        ("mailto:Name <a@b>", "one address"),
        ("queue:", "queue name"),
        ("queue://q2", "queue name"),
        ("queue:a b", "queue name"),
        ("queue:" + "q" * 65, "1 to 64 characters"),
    ],
)
def test_a_bad_subscriber_is_refused_with_the_reason(uri: str, named: str) -> None:
    with pytest.raises(ValidationFailed, match=named):
        check_subscriber(uri, WITH_MAIL, KINDS)


def test_a_literal_address_is_judged_by_the_settings_of_the_deployment() -> None:
    for uri in ("http://10.0.0.1/", "trust+http://10.0.0.1:5000/", "https://10.0.0.1/"):
        types = (uri.partition(":")[0],)
        inside = Settings(subscriber_types=types, delivery_allow="10.0.0.0/8", auth="keystone")
        assert check_subscriber(uri, inside, KINDS) == uri
        with pytest.raises(ValidationFailed, match="it is not public"):
            check_subscriber(uri, Settings(subscriber_types=types, auth="keystone"), KINDS)


def test_a_name_is_not_judged_by_its_addresses() -> None:
    assert check_subscriber("http://localhost:8888/", Settings(), KINDS)


def test_the_settings_decide_which_schemes_there_are() -> None:
    settings = Settings(subscriber_types=("trust+http",), auth="keystone")

    assert check_subscriber("trust+http://mistral:8989/v2", settings, KINDS)
    with pytest.raises(ValidationFailed, match=r"schemes trust\+http$"):
        check_subscriber("http://example.org", settings, KINDS)


def test_a_scheme_that_nothing_delivers_to_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="can't be gopher: nothing here delivers to it"):
        check_subscriber("gopher://host", Settings(subscriber_types=("gopher",)), KINDS)


def test_mail_needs_a_relay_or_a_command() -> None:
    with pytest.raises(ValidationFailed, match="ZAQAR_SMTP_HOST"):
        check_subscriber("mailto:a@example.org", WITHOUT_MAIL, KINDS)

    by_command = Settings(smtp_host="", sendmail_command="/usr/sbin/sendmail -t -oi")
    assert check_subscriber("mailto:a@example.org", by_command, KINDS)


def test_mail_through_a_relay_needs_a_sender() -> None:
    with pytest.raises(ValidationFailed, match="ZAQAR_SMTP_SENDER"):
        check_subscriber("mailto:a@example.org", Settings(smtp_host="mail.example.org"), KINDS)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"from": "Ops"}, "one address such as"),
        ({"from": "a@b, c@d"}, "one address such as"),
        ({"from": "Ops <a@b> <c@d>"}, "one address such as"),
        ({"from": "=?utf-8?q?x=0ABcc=3A_evil=40example.org?= <a@b>"}, "encoded words"),
        ({"from": "x" * 129 + " <a@b>"}, "129 characters; at most 128"),
        ({"subject": "=?utf-8?q?x=0ABcc=3A_evil=40example.org?="}, "encoded words"),
        ({"subject": "so =?UTF-8*en?B?eA==?= much"}, "encoded words"),
        ({"subject": "x" * 513}, "513 characters; at most 512"),
    ],
)
def test_what_can_not_stand_in_a_mail_is_refused(options: JsonObject, named: str) -> None:
    """For other subscribers, too: one that is changed to mailto: keeps its options."""
    with pytest.raises(ValidationFailed, match=named):
        check_options(options, KINDS)


@pytest.mark.parametrize(
    "options",
    [
        {"from": "ops@example.org", "subject": "2 + 2 =? 4"},
        {"from": 'Ops, "all" of us <ops@example.org>', "subject": "é" * 512},
        {"from": "", "subject": ""},
        {"from": None, "subject": None},
    ],
)
def test_what_can_stand_in_a_mail_is_kept(options: JsonObject) -> None:
    assert check_options(options, KINDS) == options


def test_a_refusal_does_not_repeat_credentials() -> None:
    for uri in ("http://user:word@[::1/", "ftp://user:word@host/", "http://user:word@host:x/"):
        with pytest.raises(ValidationFailed) as refusal:
            check_subscriber(uri, WITH_MAIL, KINDS)
        assert "word" not in str(refusal.value)


@pytest.mark.parametrize("ttl", [60, 3600, 220367260800])
def test_a_ttl_within_the_calendar_is_accepted(ttl: int) -> None:
    assert check_ttl(ttl, NOW, least=60) == ttl
    assert (NOW + timedelta(seconds=ttl)).year <= 9999


@pytest.mark.parametrize("ttl", [59, 0, -1, True, False, "60", 60.0, [], 2**62])
def test_another_ttl_is_refused(ttl: object) -> None:
    with pytest.raises(ValidationFailed, match="ttl must be an integer of at least 60 seconds"):
        check_ttl(ttl, NOW, least=60)


def test_a_ttl_may_last_to_the_end_of_the_year_9999_and_no_longer() -> None:
    longest = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - NOW).total_seconds())

    assert check_ttl(longest, NOW) == longest
    with pytest.raises(ValidationFailed, match="year 10000"):
        check_ttl(longest + 1, NOW)


@pytest.mark.parametrize("options", [None, {}, [], "", 0, False])
def test_falsy_options_are_none(options: object) -> None:
    assert check_options(options, KINDS) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"anything": [1, None, {"else": True}]},
        {"_retry_policy": {"minimum_delay": 10}},
        {"_retry_policy": None, "post_headers": None, "post_data": None, "from": None},
        {"post_headers": {"X-Key": "1", "x_y": "é"}},
        {"post_headers": {"X": "x" * 8191}},
        {"post_data": '{"event": "$zaqar_message$"}'},
        {"post_data": "two\nlines"},
        {"from": "a@b", "subject": "Grüße"},
        {"trust_id": "t1"},
    ],
)
def test_good_options_are_kept_as_they_are(options: JsonObject) -> None:
    assert check_options(options, KINDS) == options


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([1], "options must be a dict"),
        ("x", "options must be a dict"),
        (5, "options must be a dict"),
        (True, "options must be a dict"),
        ({"_retry_policy": 5}, "_retry_policy must be an object"),
        ({"_retry_policy": {"minimum_delay": 25}}, "10 seconds above"),
        ({"post_headers": "X: 1"}, "post_headers must be an object of strings"),
        ({"post_headers": {"X": 1}}, "post_headers X must be a string"),
        ({"post_headers": {"X": None}}, "post_headers X must be a string"),
        ({"post_headers": {"X": "a\r\nY: b"}}, "without line breaks"),
        ({"post_headers": {"X": "a\n"}}, "without line breaks"),
        ({"post_headers": {"X": "a\0"}}, "without line breaks"),
        ({"post_headers": {"X": "a\x01"}}, "control characters"),
        ({"post_headers": {"X": "a\tb"}}, "control characters"),
        ({"post_headers": {"X": "x" * 8192}}, "8193 characters; at most 8192"),
        ({"post_headers": {f"X{i}": "x" * 98 for i in range(100)}}, "at most 8192"),
        ({"post_headers": {f"X{i}": "" for i in range(257)}}, "are 257; at most 256"),
        ({"post_headers": {f"X{i}": 1 for i in range(3000)}}, "at most 8192"),
        ({"post_headers": {"X\r\nY": "a"}}, "post_headers must have names of HTTP headers"),
        ({"post_headers": {"": "a"}}, "post_headers must have names of HTTP headers"),
        ({"post_headers": {"X Y": "a"}}, "post_headers must have names of HTTP headers"),
        ({"post_headers": {"é": "a"}}, "post_headers must have names of HTTP headers"),
        ({"post_data": {"event": 1}}, "post_data must be a string"),
        ({"subject": 5}, "subject must be a string"),
        ({"html": ["<p>"]}, "html must be a string"),
        ({"html": "<p>{{ nothing }}"}, "options: html 'nothing' can't be filled"),
        ({"subject": "{{ body.id"}, "options: subject has '{{ body.id'"),
        ({"subject": "a\nBcc: c@d"}, "subject must be a string of one line"),
        ({"from": "a\rb"}, "from must be a string of one line"),
        ({"subject": "a\tb"}, "subject must be a string of one line"),
        ({"a": 2**63}, "out of range"),
        ({"_delivery_format": "xml"}, "_delivery_format must be one of zaqar, raw, cloudevents"),
        ({"_delivery_format": 5}, "_delivery_format must be one of"),
        ({"_delivery_template": 5}, "_delivery_template must be a JSON object or array, or a text"),
        ({"_delivery_template": "{{ nothing }}"}, "'nothing' can't be filled: a path begins with"),
    ],
)
def test_bad_options_are_refused_with_the_reason(options: object, named: str) -> None:
    with pytest.raises(ValidationFailed, match=named):
        check_options(options, KINDS)


HOOK = "https://example.org/hook"


@pytest.mark.parametrize(
    ("subscriber", "options"),
    [
        (HOOK, {"_delivery_format": "cloudevents-binary"}),
        (HOOK, {"_delivery_format": "zaqar", "post_data": "x"}),
        (HOOK, {"_delivery_format": "zaqar", "_delivery_template": "x"}),
        (HOOK, {"_delivery_template": "x", "post_data": None}),
        ("trust+https://example.org", {"_delivery_format": "cloudevents"}),
        ("mailto:a@b", {"_delivery_format": "raw"}),
        ("mailto:a@b", {"_delivery_template": "x"}),
        ("mailto:a@b", {"_delivery_template": "{{ unsubscribe_url }}"}),
        ("mailto:a@b", {"html": "<p>", "post_data": "x", "subject": "[[x]] {{ queue }}"}),
        ("queue:q2", {"_delivery_format": "cloudevents"}),
    ],
)
def test_forms_that_a_subscriber_can_get_are_permitted(
    subscriber: str, options: JsonObject
) -> None:
    check_use(subscriber, options, KINDS, Settings())


@pytest.mark.parametrize(
    ("subscriber", "options", "named"),
    [
        (
            "mailto:a@b",
            {"_delivery_format": "cloudevents"},
            "_delivery_format must be one of zaqar, raw for a subscriber with mailto:",
        ),
        ("queue:q2", {"_delivery_format": "cloudevents-binary"}, "must be one of zaqar, raw, cl"),
        (
            "websocket:c1",
            {"_delivery_template": "x", "connection_id": "1"},
            "_delivery_template can't be used by a subscriber with websocket:",
        ),
        (
            HOOK,
            {"_delivery_template": {"a": ["{{ unsubscribe_url }}"]}},
            "'unsubscribe_url' can't be filled: only mails have it",
        ),
        (
            HOOK,
            {"_delivery_template": "x", "post_data": "y"},
            "_delivery_template and post_data exclude each other",
        ),
        (
            HOOK,
            {"_delivery_template": "x", "_delivery_format": "raw"},
            "_delivery_template and _delivery_format raw exclude each other",
        ),
        (
            HOOK,
            {"_delivery_format": "cloudevents", "post_data": "y"},
            "post_data and _delivery_format cloudevents exclude each other",
        ),
    ],
)
def test_forms_that_a_subscriber_can_t_get_are_refused(
    subscriber: str, options: JsonObject, named: str
) -> None:
    with pytest.raises(ValidationFailed, match=named):
        check_use(subscriber, options, KINDS, Settings())


def test_options_are_limited_in_bytes() -> None:
    room = 65536 - len('{"a":""}')

    assert check_options({"a": "x" * room}, KINDS)
    with pytest.raises(ValidationFailed, match="65537 bytes as JSON; at most 65536 bytes"):
        check_options({"a": "x" * (room + 1)}, KINDS)


@pytest.mark.parametrize(
    ("subscriber", "shown"),
    [
        ("https://user:pw@Hooks.example.org:8443/a/secret?sig=1", "https://hooks.example.org"),
        ("HTTP://[::1]:80/x", "http://::1"),
        ("mailto:someone@example.org?subject=x", "mailto:@example.org"),
        ("queue:invoices", "queue:invoices"),
        ("http://[broken", "http://"),
        ("sms:+4930123456?body=x", "sms:"),
    ],
)
def test_a_subscriber_is_shown_by_its_scheme_and_host_alone(subscriber: str, shown: str) -> None:
    assert shown_subscriber(subscriber) == shown


@pytest.mark.parametrize(
    "name",
    [
        "X-Project-ID",
        "x-project-id",
        "X_Project_ID",
        "x.project.id",
        "X-Tenant",
        "X-Tenant-Id",
        "Client-ID",
        "CLIENT_ID",
        "URL-Signature",
        "url-paths",
        "X-Role",
        "X-Roles",
        "X-User",
        "X-User-Id",
        "X-User-Domain-Name",
        "X-Domain-Id",
        "X-Project-Domain-Id",
        "X-Identity-Status",
        "X-Is-Admin-Project",
        "X-Service-Token",
        "X-Service-Roles",
        "OpenStack-System-Scope",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-User",
        "X-Real-IP",
        "Remote-User",
        "X-Remote-User",
        "X-Remote-Group",
        "X-SSL-Client-Verify",
        "SSL-Client-Cert",
        "X-Original-URL",
        "X-Auth-Request-Email",
        "X-WebAuth-User",
        "X-Goog-Authenticated-User-Email",
        "Tailscale-User-Login",
        "X-Consumer-Custom-ID",
        "X-Credential-Identifier",
        "X-Anonymous-Consumer",
        "X-Vouch-User",
        "True-Client-IP",
        "X-Cluster-Client-IP",
        "Fastly-Client-IP",
        "CF-Connecting-IP",
    ],
)
def test_post_headers_must_not_say_who_asks(name: str) -> None:
    options = {"post_headers": {"X-Key": "1", name: "victim"}}

    with pytest.raises(ValidationFailed, match="read the caller's identity from it"):
        check_use("https://example.org", options, KINDS, Settings())


@pytest.mark.parametrize(
    "name",
    [
        "X-Auth-Token",
        "Authorization",
        "X-API-Key",
        "X-Key",
        "X-Client-Secret",
        "X-Project-Key",
        "X-Gitlab-Token",
        "X-Goog-Api-Key",
        "CF-Access-Client-Id",
        "Cookie",
        "Curl",
    ],
)
def test_post_headers_may_prove_to_a_third_party_who_sends(name: str) -> None:
    check_use("https://example.org", {"post_headers": {name: "t"}}, KINDS, Settings())


@pytest.mark.parametrize("name", ["X-Project-Id", "Client-ID"])
def test_post_headers_may_name_client_and_project_beside_a_token_of_keystone(name: str) -> None:
    check_use("trust+https://example.org", {"post_headers": {name: "t"}}, KINDS, Settings())


@pytest.mark.parametrize("name", ["X-User-Id", "X-Roles", "URL-Signature", "X-Project-Name"])
def test_post_headers_say_nothing_else_beside_a_token_of_keystone(name: str) -> None:
    with pytest.raises(ValidationFailed, match="read the caller's identity from it"):
        check_use("trust+https://example.org", {"post_headers": {name: "t"}}, KINDS, Settings())
