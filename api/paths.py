"""Finds the resource of a path by a walk over the path's words, one step for each word."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias
from urllib.parse import unquote

from starlette.types import Scope

from api.resources import Resource

Found: TypeAlias = tuple[Resource, dict[str, str], str]
"""A resource, the path's parameters, and the part of the path before the resource's own path."""


class Branch:
    """The words that can follow in a path; `parameter` takes any word."""

    __slots__ = ("parameter", "resource", "words")

    def __init__(self) -> None:
        self.words: dict[str, Branch] = {}
        self.parameter: tuple[str, Branch] | None = None
        self.resource: Resource | None = None

    def grow(self, resource: Resource) -> None:
        branch = self
        for word in resource.path.split("/")[1:]:
            branch = branch._following(word)
        branch.resource = resource

    def find(self, words: Iterable[str]) -> tuple[Resource, dict[str, str]] | None:
        """The resource of a path's words, with the path's parameters."""
        branch = self
        names: dict[str, str] = {}
        for word in words:
            following = branch.words.get(word)
            if following is None:
                if branch.parameter is None:
                    return None
                name, following = branch.parameter
                # An empty queue name is refused as a name; other empty words match no path.
                if not word and name != "queue_name":
                    return None
                names[name] = word
            branch = following
        return None if branch.resource is None else (branch.resource, names)

    def _following(self, word: str) -> Branch:
        if not word.startswith("{"):
            return self.words.setdefault(word, Branch())
        if self.parameter is None:
            self.parameter = (word[1:-1], Branch())
        return self.parameter[1]


class Paths:
    """The resources of a surface by their paths, below the root path of a request or without it."""

    def __init__(self, resources: Iterable[Resource], surface_prefix: str) -> None:
        self._root = Branch()
        self._surface_prefix = re.escape(surface_prefix)
        for resource in resources:
            self._root.grow(resource)

    def find(self, scope: Scope) -> Found | None:
        found = self._root.find(_words(scope, ""))
        if found is not None:
            return *found, ""
        root_path = scope.get("root_path")
        return self._find_below(root_path, scope) if root_path else None

    def _find_below(self, root_path: str, scope: Scope) -> Found | None:
        """Find the resource behind a root path.

        Some proxies take the root path away, others leave it. Clients that append our links to
        their endpoint repeat it. python-zaqarclient appends them behind the version.
        """
        prefix, surface = re.escape(root_path), self._surface_prefix
        for before in (rf"(?:{prefix})+(?=/|$)", rf"(?:{prefix})*{surface}{prefix}(?={surface}/)"):
            if match := re.match(before, scope["path"]):
                found = self._root.find(_words(scope, match[0]))
                if found is not None:
                    return *found, match[0]
        return None


def _words(scope: Scope, before: str) -> list[str]:
    """The decoded words of a path, after the prefix `before`.

    An encoded slash is part of its word, so it leads to no other route.
    """
    raw: bytes = scope.get("raw_path") or b""
    # For bytes, `find` is far cheaper than `in`, which raises and drops an error inside.
    if raw.find(b"%2F") >= 0 or raw.find(b"%2f") >= 0:
        text = raw.decode("ascii")
        if not text.startswith(before):
            return []
        return [unquote(word) for word in text[len(before) :].split("/")[1:]]
    path: str = scope["path"]
    return path[len(before) :].split("/")[1:] or [""]
