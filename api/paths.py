"""Finds the resource of a path: one pattern has the paths of all resources with as many words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias
from urllib.parse import unquote

from starlette.types import Scope

from api.resources import Resource

Found: TypeAlias = tuple[Resource, dict[str, str], str]
"""A resource, the path's parameters, and the part of the path before the resource's own path."""

_ENCODED_SLASH = "\0"
"""Stands for a slash inside a word until the word is found."""


class _Pattern:
    """The paths of some resources. Each ends with an empty group, whose number says which one was found."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._by_mark: dict[int, tuple[Resource, dict[str, int]]] = {}
        """With the groups of the resource's parameters."""
        patterns: list[str] = []
        group = 0
        for resource in resources:
            names: dict[str, int] = {}
            words: list[str] = []
            for word in resource.path.split("/"):
                if word.startswith("{"):
                    group += 1
                    names[word[1:-1]] = group
                words.append(_pattern_of(word))
            group += 1
            self._by_mark[group] = resource, names
            patterns.append("/".join(words) + "()")
        self._match = re.compile("|".join(patterns)).fullmatch

    def find(self, path: str) -> tuple[Resource, dict[str, str]] | None:
        match = self._match(path)
        if match is None:
            return None
        resource, groups = self._by_mark[match.lastindex or 0]
        return resource, {name: match[group] for name, group in groups.items()}


class Paths:
    """The resources of a surface by their paths, below the root path of a request or without it."""

    def __init__(self, resources: Iterable[Resource], surface_prefix: str) -> None:
        self._surface_prefix = re.escape(surface_prefix)
        by_depth: dict[int, list[Resource]] = {}
        for resource in sorted(resources, key=_fixed_words_first):
            by_depth.setdefault(resource.path.count("/"), []).append(resource)
        self._by_depth = {depth: _Pattern(some) for depth, some in by_depth.items()}

    def find(self, scope: Scope) -> Found | None:
        found = self._find(scope, "")
        if found is not None:
            return found
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
                found = self._find(scope, match[0])
                if found is not None:
                    return found
        return None

    def _find(self, scope: Scope, before: str) -> Found | None:
        raw: bytes = scope.get("raw_path") or b""
        # For bytes, `find` is far cheaper than `in`, which raises and drops an error inside.
        if raw.find(b"%2") >= 0:
            return self._find_encoded(raw.decode("ascii"), before)
        path = scope["path"][len(before) :] or "/"
        pattern = self._by_depth.get(path.count("/"))
        found = None if pattern is None else pattern.find(path)
        return None if found is None else (*found, before)

    def _find_encoded(self, raw: str, before: str) -> Found | None:
        """An encoded slash is part of its word, so it leads to no other route."""
        if not raw.startswith(before):
            return None
        words = raw[len(before) :].split("/")
        text = "/".join(unquote(word).replace("/", _ENCODED_SLASH) for word in words)
        found = self._find({"path": text}, "")
        if found is None:
            return None
        resource, names, _ = found
        names = {name: word.replace(_ENCODED_SLASH, "/") for name, word in names.items()}
        return resource, names, before


def _pattern_of(word: str) -> str:
    if not word.startswith("{"):
        return re.escape(word)
    # An empty name of a queue is refused as a name; other empty words match no path.
    return "([^/]*)" if word in ("{queue_name}", "{topic_name}") else "([^/]+)"


def _fixed_words_first(resource: Resource) -> list[bool]:
    return [word.startswith("{") for word in resource.path.split("/")]
