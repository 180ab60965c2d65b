"""The documents, as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Every Markdown page that is part of the documentation."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def read(name: str) -> str:
    """A page of `docs/`."""
    return (DOCS / name).read_text()


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    level = heading.index(" ")
    after = page.split(f"\n{heading}\n", 1)[1]
    return re.split(rf"\n#{{1,{level}}} ", after, maxsplit=1)[0]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [text for found, text in _FENCE.findall(page) if found == language]


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page)


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables in a text, without their headings."""
    lines = text.splitlines()
    below = [*lines[1:], ""]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line, next_line in zip(lines, below, strict=True)
        if line.startswith("|") and not _is_rule(line) and not _is_rule(next_line)
    ]


def named(cell: str) -> list[str]:
    """The words that a text has in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def _is_rule(line: str) -> bool:
    return line.startswith("|-")
