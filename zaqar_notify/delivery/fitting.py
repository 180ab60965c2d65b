"""Whether messages fit the schema of their queue, `_message_schema`.

The store tells the schema in the very write of a post, where there is no time for a long check. So a post is checked
before, against the schema that its queue had last, as far as this process knows. If the write meets another one, it
is given up, and made again after a check against that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from zaqar_notify.errors import ValidationFailed, called
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.json_schema import TooManySteps, Unfit, compiled

REMEMBERED_SCHEMAS = 1000
"""Queues of which a process knows their last schema: of at most 32 KiB each."""

MOST_TURNS = 1000
"""Projects whose turns are kept."""

T = TypeVar("T")


class SchemaUnchecked(Exception):
    """A write has met a schema against which its post was not checked."""

    def __init__(self, schema: str) -> None:
        super().__init__("The post was not checked against this schema")
        self.schema = schema


class Fitting:
    """What is known of one post: for each schema against which it was checked, the refusal or None."""

    def __init__(
        self, ref: QueueRef, texts: Callable[[], Sequence[bytes]], *, names_place: bool
    ) -> None:
        """`texts` gives the bodies. `names_place`: the refusal is for the client alone, and may have names from them."""
        self.ref = ref
        self.texts = texts
        self._names_place = names_place
        self._known: dict[str, ValidationFailed | None] = {}
        self.asked_for: str | None = None
        """The schema that the last write met."""

    def require(self, schema: str) -> None:
        """
        Raises:
            ValidationFailed: It does not fit this schema.
            SchemaUnchecked: It was not checked against it.
        """
        self.asked_for = schema
        if schema not in self._known:
            raise SchemaUnchecked(schema)
        refusal = self._known[schema]
        if refusal is not None:
            raise refusal

    def learn(self, schema: str, found: tuple[int, Unfit] | ValidationFailed | None) -> None:
        if isinstance(found, tuple):
            index, unfit = found
            place = unfit.place if self._names_place else "it"
            found = ValidationFailed(
                f"messages[{index}] does not fit the _message_schema of {called(self.ref.name)}: {place} {unfit.reason}"
            )
        self._known[schema] = found


class Schemas:
    """The schemas of queues, as far as this process knows them."""

    def __init__(self) -> None:
        self._last: OrderedDict[QueueRef, str] = OrderedDict()
        self._turn = asyncio.Lock()
        """One long check at a time, in a thread."""

        @lru_cache(MOST_TURNS)
        def turn_of(_project: str) -> asyncio.Lock:
            return asyncio.Lock()

        self._turn_of: Callable[[str], asyncio.Lock] = turn_of
        """A project waits for its own long checks before it waits for those of others."""

    async def stored(self, fitting: Fitting, store: Callable[[], Awaitable[T]]) -> T:
        """Have a post stored that is checked by `fitting`.

        Raises:
            ValidationFailed: It does not fit, and nothing was stored.
        """
        last = self._last.get(fitting.ref)
        if last is not None:
            await self._check(fitting, last)
        while True:
            try:
                stored = await store()
            except SchemaUnchecked as unchecked:
                last = unchecked.schema
                self._remember(fitting.ref, last)
                await self._check(fitting, last)
            else:
                if last is not None and fitting.asked_for != last:
                    self._last.pop(fitting.ref, None)
                return stored

    async def _check(self, fitting: Fitting, text: str) -> None:
        try:
            schema = compiled(text)
        except ValidationFailed as error:  # It is older than the rules for schemas.
            fitting.learn(text, error)
            return
        texts = fitting.texts()
        try:
            fitting.learn(text, schema.unfit_soon(texts))
        except TooManySteps:
            async with self._turn_of(fitting.ref.project), self._turn:
                found = await asyncio.to_thread(schema.unfit_slowly, texts)
            fitting.learn(text, found)

    def _remember(self, ref: QueueRef, schema: str) -> None:
        self._last[ref] = schema
        self._last.move_to_end(ref)
        if len(self._last) > REMEMBERED_SCHEMAS:
            self._last.popitem(last=False)
