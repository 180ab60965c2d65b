"""Compiles a schema of JSON Schema 2020-12, and refuses one that is none, or that is too large.

`$ref` leads to places in the schema itself, by `#`, a JSON pointer or an anchor. A schema is one document, so a
`$dynamicRef` leads to the same place as a `$ref`.

Source: JSON Schema 2020-12, Core and Validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import orjson
import re2

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.rules.json_schema.evaluation import Fault, Node, Search

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_DEPTH = 64
MAX_SUBSCHEMAS = 1000
MAX_PATTERNS = 20
MAX_PATTERN_CHARACTERS = 1000
MAX_PATTERN_SIZE = 5000
"""Instructions of the programs of all patterns of a schema."""
SHOWN_CHARACTERS = 60
"""Of the value of a keyword, in the refusal of a message."""
PATTERN_BYTES = 128 << 10
"""Of memory for the automaton of a pattern."""

_OPTIONS = re2.Options()
_OPTIONS.max_mem = PATTERN_BYTES
_OPTIONS.log_errors = False


class Place:
    """A place in the schema: what a keyword there says, and the refusal of it."""

    def __init__(
        self, compiler: Compiler, node: Node, schema: Mapping[str, Any], keyword: str
    ) -> None:
        self._compiler = compiler
        self.node = node
        self.schema = schema
        self.keyword = keyword
        self.value: Any = schema[keyword]
        said = orjson.dumps(self.value).decode()
        self._rule = f"{self.pointer}: {said}" if len(said) <= SHOWN_CHARACTERS else self.pointer

    @property
    def pointer(self) -> str:
        return f"{self.node.pointer}/{_escaped(self.keyword)}"

    def refused(self, reason: str) -> ValidationFailed:
        return ValidationFailed(f"_message_schema: {self.pointer} {reason}")

    def fault(self) -> Fault:
        """The rule of this place is broken."""
        return Fault(self._rule)

    def sub(self, *names: str | int) -> Node:
        """The schema at this place, or below it."""
        schema = self.value
        for name in names:
            schema = schema[name]
        tail = "".join(f"/{_escaped(str(name))}" for name in names)
        return self._compiler.node(schema, f"{self.pointer}{tail}")

    def same(self, *names: str | int) -> Node:
        """As `sub`, of a schema that is asked about the same value."""
        node = self.sub(*names)
        self._compiler.asks_about_the_same(self.node, node)
        return node

    def subs(self) -> dict[str, Node]:
        """The schemas of an object of schemas."""
        if not isinstance(self.value, dict):
            raise self.refused("must be an object of schemas")
        return {name: self.sub(name) for name in self.value}

    def sames(self) -> list[Node]:
        """The schemas of an array of them, all asked about the same value."""
        self.check_schemas()
        return [self.same(index) for index in range(len(self.value))]

    def check_schemas(self) -> None:
        if not isinstance(self.value, list) or not self.value:
            raise self.refused("must be an array of at least one schema")

    def target(self) -> Node:
        """The schema that a reference leads to."""
        node = self._compiler.referred(self)
        self._compiler.asks_about_the_same(self.node, node)
        return node

    def count(self) -> int:
        value = self.value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value < 0
            or value != int(value)
        ):
            raise self.refused("must be an integer that is not negative")
        return int(value)

    def number(self) -> int | float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.refused("must be a number")
        return self.value

    def names(self, value: object = None) -> list[str]:
        names = self.value if value is None else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.refused("must be an array of strings")
        return names

    def search(self, pattern: object) -> Search:
        """The pattern, as an automaton that looks at each character once."""
        return self._compiler.search(self, pattern)

    def other(self, keyword: str) -> Any:
        """What another keyword of the same schema says, or None."""
        return self.schema.get(keyword)


class Compiler:
    def __init__(self, root: Mapping[str, Any], keywords: Mapping[str, Any]) -> None:
        self._root = root
        self._keywords = keywords
        self._nodes: dict[str, Node] = {}
        self._pending: list[tuple[Node, Mapping[str, Any]]] = []
        self._asks: dict[str, list[Node]] = {}
        self._patterns = 0
        self._pattern_size = 0
        self._anchors = dict(_anchors(root, "#", 0))

    def compile(self) -> Node:
        """
        Raises:
            ValidationFailed: It is no schema that can be used; the sentence has the place.
        """
        root = self.node(self._root, "#")
        while self._pending:
            node, schema = self._pending.pop()
            self._fill(node, schema)
        self._refuse_circles()
        return root

    def node(self, schema: object, pointer: str) -> Node:
        if pointer in self._nodes:
            return self._nodes[pointer]
        if len(self._nodes) == MAX_SUBSCHEMAS:
            raise _refused(pointer, f"is one schema too many: at most {MAX_SUBSCHEMAS} are allowed")
        node = self._nodes[pointer] = Node(pointer)
        if schema is False:
            node.checks.append(lambda _value, _steps: Fault(pointer))
        elif isinstance(schema, dict):
            self._pending.append((node, schema))
        elif schema is not True:
            raise _refused(pointer, "must be a schema: an object, true or false")
        return node

    def _fill(self, node: Node, schema: Mapping[str, Any]) -> None:
        dialect = schema.get("$schema", DIALECT)
        if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
            raise _refused(node.pointer, f"has another $schema than {DIALECT}")
        if "$id" in schema and node.pointer != "#":
            raise _refused(node.pointer, "has an $id: a schema is one document here")
        for keyword, build in self._keywords.items():
            if keyword in schema:
                check = build(Place(self, node, schema, keyword))
                if check is not None:
                    node.checks.append(check)

    def asks_about_the_same(self, node: Node, other: Node) -> None:
        self._asks.setdefault(node.pointer, []).append(other)

    def _refuse_circles(self) -> None:
        """Refuse schemas that are asked about a value in order to be asked about it."""
        done: set[str] = set()
        for start in self._asks:
            way: dict[str, Iterator[Node]] = {start: iter(self._asks[start])}
            while way:
                at, others = next(reversed(way.items()))
                following = next(others, None)
                if following is None:
                    done.add(at)
                    del way[at]
                elif following.pointer in way:
                    raise _refused(following.pointer, "refers to itself without end")
                elif following.pointer not in done:
                    way[following.pointer] = iter(self._asks.get(following.pointer, ()))

    def referred(self, place: Place) -> Node:
        reference = place.value
        if not isinstance(reference, str):
            raise place.refused("must be a string")
        own = self._root.get("$id")
        if isinstance(own, str) and own and reference.startswith(own.rstrip("#")):
            reference = reference[len(own.rstrip("#")) :] or "#"
        if not reference.startswith("#"):
            raise place.refused(
                "must begin with #: schemas of other documents are not fetched; put them into $defs"
            )
        pointer = self._anchors.get(reference[1:], unquote(reference))
        return self.node(
            self._at(place, pointer), pointer.rstrip("/") if pointer == "#/" else pointer
        )

    def _at(self, place: Place, pointer: str) -> object:
        found: Any = self._root
        if pointer != "#" and not pointer.startswith("#/"):
            raise place.refused("names an anchor that is not there")
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise place.refused("leads to a place that is not there") from error
        return found

    def search(self, place: Place, pattern: object) -> Search:
        self._patterns += 1
        if self._patterns > MAX_PATTERNS:
            raise place.refused(f"is one pattern too many: at most {MAX_PATTERNS} are allowed")
        if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_CHARACTERS:
            raise place.refused(f"must be a pattern of at most {MAX_PATTERN_CHARACTERS} characters")
        try:
            compiled = re2.compile(pattern, _OPTIONS)
        except (re2.error, UnicodeError) as error:
            reason = (
                error.args[0].decode(errors="replace")
                if isinstance(error.args[0], bytes)
                else error
            )
            raise place.refused(f"is no pattern that RE2 can use: {reason}") from error
        self._pattern_size += compiled.programsize
        if self._pattern_size > MAX_PATTERN_SIZE:
            raise place.refused(
                "is a pattern too large: the patterns of a schema have 5,000 instructions at most"
            )
        return Search(compiled.search, compiled.programsize)


def _anchors(schema: object, pointer: str, depth: int) -> Iterator[tuple[str, str]]:
    """The anchors in a document, each with its place."""
    if depth > MAX_DEPTH:
        raise _refused(pointer, f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(schema, dict):
        for keyword in ("$anchor", "$dynamicAnchor"):
            name = schema.get(keyword)
            if isinstance(name, str) and name:
                yield name, pointer
        for name, one in schema.items():
            yield from _anchors(one, f"{pointer}/{_escaped(name)}", depth + 1)
    elif isinstance(schema, list):
        for index, one in enumerate(schema):
            yield from _anchors(one, f"{pointer}/{index}", depth + 1)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _refused(pointer: str, reason: str) -> ValidationFailed:
    return ValidationFailed(f"_message_schema: {pointer} {reason}")
