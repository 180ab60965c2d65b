"""The example of the page for writers of filters does what the page says."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from tests.docs.pages import blocks, read
from zaqar_notify.delivery.filters import ENTRY_POINTS, Body, Filter, Posting
from zaqar_notify.errors import PostRefused

PAGE = read("add-a-filter.md")


@pytest.fixture
def example() -> Filter:
    [module] = blocks(PAGE, "python")
    [project] = blocks(PAGE, "toml")
    [named] = tomllib.loads(project)["project"]["entry-points"][ENTRY_POINTS].values()
    names: dict[str, Any] = {}
    exec(module, names)  # noqa: S102 - our own page
    made = names[named.partition(":")[2]]()
    assert isinstance(made, Filter)
    return made


def posting(**metadata: object) -> Posting:
    return Posting("demo", "orders", False, metadata, (Body(b'"a long text"'),), "client")


@pytest.mark.parametrize("metadata", [{}, {"most_bytes": 13}, {"most_bytes": "a word"}])
async def test_it_lets_other_posts_pass_as_they_are(
    example: Filter, metadata: dict[str, object]
) -> None:
    given = posting(**metadata)

    assert await example.filter(given) is given


async def test_it_routes_and_refuses_what_is_too_long(example: Filter) -> None:
    routed = await example.filter(posting(most_bytes=12, long_messages_to="long"))

    assert routed.queue == "long"
    with pytest.raises(PostRefused, match="at most 12 bytes"):
        await example.filter(posting(most_bytes=12))
