"""The reference page has every field, with the ranges and defaults of the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest

from api.v2.schemas import NewSubscription
from api.zaqar import bodies, schemas
from sinks import headers
from sinks.letter import write_letter
from tests.docs.pages import named, read, rows, section
from tests.kinds import KINDS
from tests.sinks.builders import delivery_to
from tests.sinks.conftest import LOOPBACK, webhook_sink
from tests.sinks.receiver import receiving
from zaqar_notify import metadata
from zaqar_notify.clock import SystemClock
from zaqar_notify.delivery import subscribers
from zaqar_notify.delivery.forms import FORM_GROWTH
from zaqar_notify.delivery.posts import ClientPost, PostedMessage
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import QueueRef
from zaqar_notify.rules import mail, sns_phases, zaqar_phases
from zaqar_notify.rules.formats import FORMAT_KEY, ONLY_ZAQAR, SIGNATURE_KEY, Format
from zaqar_notify.rules.instants import MOST_AHEAD
from zaqar_notify.rules.limits import DEFAULT_LIMIT, MIN_SECONDS, check_limit
from zaqar_notify.rules.placeholders import TEMPLATE_KEY
from zaqar_notify.rules.retry_policy import MAX_AGE_SECONDS, POLICY_FIELDS, parse_policy
from zaqar_notify.rules.sns_phases import SnsPhases
from zaqar_notify.rules.templates import MAX_PLACEHOLDERS
from zaqar_notify.rules.zaqar_phases import MAX_DELAY_SECONDS, ZaqarPhases
from zaqar_notify.settings import Settings, variable

PAGE = read("reference.md")
SETTINGS = Settings(smtp_sender="service@example.org")
VALUES = {variable(name): getattr(SETTINGS, name) for name in Settings.model_fields}


FORMER = {
    **{("### Posted", name): "v1" for name in ("body", "ttl")},
    **{("### Shown", name): "v1" for name in ("href", "ttl", "age", "body")},
    ("### Shown", "id"): "v1.1",
    ("## Queue metadata", "_flavor"): "v1.1",
    **{("## Claim fields", name): "v1" for name in ("ttl", "grace", "limit")},
}
"""The fields that Zaqar's versions before 2 have already."""


class Row(NamedTuple):
    """A field as the page has it."""

    range: str
    default: str


def test_every_field_is_listed() -> None:
    popped = {*schemas.Message.__struct_fields__, *schemas.PoppedMessage.__struct_fields__}

    assert set(_table("### Posted")) == set(PostedMessage.__struct_fields__)
    assert set(_table("### Shown")) == popped
    assert set(_table("## Queue metadata")) == set(metadata.KNOWN_KEYS)
    assert set(_table("## Claim fields")) == set(bodies.ClaimBody.__struct_fields__)
    assert set(_table("## Subscription fields")) == set(NewSubscription.__struct_fields__)
    accepted = set(POLICY_FIELDS) - set(sns_phases.WITHOUT_EFFECT)
    assert set(_table("## Retry policy")) == accepted
    assert set(_table("### SNS's delivery policy")) == set(SnsPhases.__struct_encode_fields__)


def test_every_subscription_option_is_listed_with_the_schemes_that_read_it() -> None:
    of_kinds: dict[str, list[str]] = {}
    for kind in KINDS:
        schemes = [scheme for scheme in kind.schemes if scheme in SETTINGS.subscriber_types]
        for option in kind.options:
            of_kinds.setdefault(option, []).extend(schemes)
    forms = {
        key: [scheme for kind in KINDS if kind.forms != ONLY_ZAQAR for scheme in kind.schemes]
        for key in (FORMAT_KEY, TEMPLATE_KEY)
    }

    forms[SIGNATURE_KEY] = [
        scheme for kind in KINDS if Format.SNS in kind.forms.formats for scheme in kind.schemes
    ]

    listed = {
        named(cells[0])[0]: named(cells[1]) for cells in rows(_part("### Subscription options"))
    }

    shared: dict[str, list[str]] = {name: [] for name in subscribers.SHARED_OPTIONS}
    assert listed == {**shared, **of_kinds, **forms}


@pytest.mark.parametrize(
    "heading",
    [
        "### Posted",
        "### Shown",
        "## Queue metadata",
        "## Claim fields",
        "## Subscription fields",
        "### Subscription options",
        "## Retry policy",
        "### SNS's delivery policy",
    ],
)
def test_fields_of_former_versions_say_so_and_all_others_came_with_version_2(heading: str) -> None:
    listed = {named(cells[0])[0]: cells[-1] for cells in rows(_part(heading))}

    assert listed == {name: FORMER.get((heading, name), "v2") for name in listed}
    assert {name for of, name in FORMER if of == heading} <= set(listed)


def _take_message(name: str, value: int) -> None:
    body = b'{"messages": [{"body": 1, "%b": %d}]}' % (name.encode(), value)
    messages = bodies.read_messages(body, SETTINGS, lambda _: None)
    ClientPost(
        QueueRef("project", "queue"),
        messages,
        size=len(body),
        client_id="",
        idempotency_key=None,
        request_id="",
        hops=0,
        settings=SETTINGS,
        clock=SystemClock(),
    ).messages_for({})


def _take_metadata(name: str, value: int) -> None:
    metadata.checked({name: value}, SETTINGS)


def _take_claim(name: str, value: int) -> None:
    if name == "limit":
        check_limit(value, most=SETTINGS.max_messages_per_claim_or_pop)
    else:
        bodies.read_claim(b'{"%b": %d}' % (name.encode(), value), SETTINGS, lambda _: None)


def _take_policy(name: str, value: int) -> None:
    widest = {"minimum_delay": 0, "maximum_delay": MAX_DELAY_SECONDS}
    parse_policy(widest | {name: value})


def _take_sns_policy(name: str, value: int) -> None:
    shortest = {"minDelayTarget": 1, "maxDelayTarget": 1, "numRetries": 100}
    longest = {"maxDelayTarget": 3600, "minDelayTarget": 3600, "numRetries": 1}
    healthy = longest if name.endswith("Target") else shortest
    least = {"minDelayTarget": 1} if name == "maxDelayTarget" else {}
    parse_policy({"healthyRetryPolicy": healthy | least | {name: value}})


@pytest.mark.parametrize(
    ("heading", "take", "count"),
    [
        ("### Posted", _take_message, 2),
        ("## Queue metadata", _take_metadata, 5),
        ("## Claim fields", _take_claim, 3),
        ("## Retry policy", _take_policy, 7),
        ("### SNS's delivery policy", _take_sns_policy, 6),
    ],
)
def test_both_ends_of_a_range_are_taken_and_nothing_beyond(
    heading: str, take: Callable[[str, int], None], count: int
) -> None:
    ranges = {
        name: (_number(found[1]), _number(found[2]))
        for name, row in _table(heading).items()
        if (found := re.match(r"([\d,]+) to ([\d,]+)", row.range))
    }

    assert len(ranges) == count
    for name, (least, most) in ranges.items():
        take(name, least)
        take(name, most)
        for beyond in (least - 1, most + 1):
            with pytest.raises(ValidationFailed):
                take(name, beyond)


def test_a_least_ttl_of_a_subscription_is_named() -> None:
    assert _table("## Subscription fields")["ttl"].range.startswith(f"{MIN_SECONDS} or more")


def test_limits_that_are_not_settings_are_the_constants_of_the_code() -> None:
    options = _table("### Subscription options")
    fields = _table("## Subscription fields")

    posted = _table("### Posted")
    assert _numbers(posted["not_before"].range) == [MOST_AHEAD.days]
    assert _numbers(fields["subscriber"].range) == [subscribers.MAX_SUBSCRIBER_CHARACTERS]
    assert _numbers(fields["options"].range) == [subscribers.MAX_OPTIONS_BYTES]
    assert _numbers(options["post_headers"].range) == [headers.MAX_HEADERS, headers.MAX_CHARACTERS]
    assert _numbers(options["post_data"].range) == [FORM_GROWTH]
    assert _numbers(options["_delivery_template"].range) == [MAX_PLACEHOLDERS, FORM_GROWTH]
    assert _numbers(options["subject"].range) == [mail.MAX_SUBJECT_CHARACTERS]
    assert _numbers(options["from"].range) == [mail.MAX_NAME_CHARACTERS]


def test_a_number_beside_a_setting_is_its_default() -> None:
    found = re.findall(r"([\d,]+)(?: bytes)? \(`(ZAQAR_\w+)`\)", PAGE)

    assert len(found) > 12
    for number, name in found:
        assert _number(number) == VALUES[name], name


def test_defaults_of_a_retry_policy_and_of_a_claims_limit_are_those_of_the_code() -> None:
    of_zaqar, of_sns = _table("## Retry policy"), _table("### SNS's delivery policy")

    for name in zaqar_phases.FIELDS:
        assert of_zaqar[name].default.strip("`") == _json(getattr(ZaqarPhases(), name)), name
    for name, default in msgspec.to_builtins(SnsPhases()).items():
        assert of_sns[name].default.strip("`") == _json(default), name
    assert _numbers(of_zaqar["max_age"].range)[1] == MAX_AGE_SECONDS
    assert _number(_table("## Claim fields")["limit"].default) == DEFAULT_LIMIT


def test_defaults_of_a_queue_are_those_that_are_shown() -> None:
    listed = _table("## Queue metadata")

    for name, value in metadata.shown({}, SETTINGS).items():
        default = listed[name].default
        if isinstance(value, bool):
            assert default.strip("`") == _json(value)
        elif value is not None:
            assert _numbers(default)[0] == value, name
        else:
            assert not _numbers(default), name


async def test_every_header_of_a_delivery_is_listed() -> None:
    cells = {named(row[0])[0].lower(): row for row in rows(_part("## Delivery headers"))}
    attributes = b'{"a":{"type":"Number","value":1}}'
    delivery = delivery_to("mailto:user@example.org", attributes=attributes)

    async with receiving() as receiver, webhook_sink(Settings(delivery_allow=LOOPBACK)) as sink:
        secrets = ["whsec_c2VjcmV0"]
        await sink.deliver(delivery_to(receiver.url(), secrets=secrets, attributes=attributes))
    [request] = receiver.requests
    mailed = {name.lower() for name in write_letter(delivery, SETTINGS).content.keys()}  # noqa: SIM118

    ours = {name for name in request.headers if name.startswith(("webhook-", "zaqar-"))}
    assert set(cells) == ours
    assert {name for name, row in cells.items() if row[3].startswith("yes")} == mailed & ours
    assert all(headers.is_kept(name) for name in cells)


def _part(heading: str) -> str:
    """The text below a heading, without the parts that have a heading of their own."""
    return re.split(r"\n##+ ", section(PAGE, heading), maxsplit=1)[0]


def _table(heading: str) -> dict[str, Row]:
    """The fields of a table whose last columns are: range, default, meaning, since."""
    return {named(cells[0])[0]: Row(*cells[-4:-2]) for cells in rows(_part(heading))}


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _numbers(text: str) -> list[int]:
    return [_number(found) for found in re.findall(r"\d[\d,]*", text)]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode().strip('"')
