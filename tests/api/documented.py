"""Answers held to the OpenAPI document: each has a documented status, and a body of the documented type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import jsonschema

from api.openapi import describe
from api.paths import Paths
from api.routes.probes import DOCUMENTED, KINDS
from api.surfaces import Surface
from tests.api.surfaces import surfaces_with
from zaqar_notify.settings import VERSIONS, Settings


def document_of(surfaces: Sequence[Surface]) -> dict[str, Any]:
    document = describe(surfaces, KINDS)
    document["paths"] |= DOCUMENTED
    return document


def with_components(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """The schema as one that can be used without the document around it."""
    return {**schema, "components": document["components"]}


class Documentation:
    def __init__(self, surfaces: Sequence[Surface]) -> None:
        self._surfaces = surfaces
        self._paths = Paths([one for surface in surfaces for one in surface.resources], "")
        self._validators: dict[str, jsonschema.protocols.Validator] = {}

    def check(
        self, method: str, path: str, *, sent: bytes, status: int, content_type: str, body: bytes
    ) -> None:
        """Fail when an answer is none that the document speaks of, or is good to a request that is none.

        Args:
            path: Decoded, without the query.
        """
        found = self._paths.find({"type": "http", "path": path})
        if found is None or method not in found[0].operations:
            return
        operation = self._document["paths"][found[0].path][method.lower()]
        described = operation["responses"].get(str(status))
        assert described is not None, f"{method} {path}: {status} is not documented"
        if status < 300 and sent and "requestBody" in operation:
            [(expected, content)] = operation["requestBody"]["content"].items()
            self._validate(sent, expected, content["schema"])
        if not body:
            own = found[0].by_method[method].replies.get(status)
            is_bare = "content" not in described or (own is not None and own.example is None)
            assert method == "HEAD" or is_bare, f"{method} {path}: no body"
            return
        content = described.get("content", {}).get(content_type)
        assert content is not None, f"{method} {path}: {status} has a body of {content_type}"
        self._validate(body, content_type, content["schema"])

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document_of(self._surfaces)

    def _validate(self, body: bytes, content_type: str, schema: dict[str, Any]) -> None:
        name = json.dumps(schema)
        if name not in self._validators:
            whole = with_components(schema, self._document)
            self._validators[name] = jsonschema.Draft202012Validator(whole)
        is_text = content_type.startswith(
            ("text/", "application/x-www-form-urlencoded", "application/pem-")
        )
        self._validators[name].validate(body.decode() if is_text else json.loads(body))


DOCUMENTATION = Documentation(surfaces_with(Settings(admin_mode=True, versions=VERSIONS)))
"""Every answer in the tests of the API is held to it."""
