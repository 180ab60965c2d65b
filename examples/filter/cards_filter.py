"""A message filter that keeps numbers of payment cards out of queues.

The queue's owner chooses by its metadata `card_numbers`: `mask` stores all digits but the last four as `*`, `refuse`
answers 400, and `route:NAME` stores the post on that queue of the project. A queue without the key takes everything.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

from zaqar_notify.delivery.filters import Body, Filter, Posting
from zaqar_notify.errors import PostRefused

KEY = "card_numbers"

# 13 to 19 digits, with blanks or dashes between them, and not a part of a longer number.
_NUMBER = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])")


class CardsFilter(Filter):
    async def filter(self, posting: Posting) -> Posting:
        wanted = posting.metadata.get(KEY)
        if wanted is None:
            return posting
        masked = tuple(_masked(body) for body in posting.messages)
        if all(one is body for one, body in zip(masked, posting.messages, strict=True)):
            return posting
        if wanted == "mask":
            return msgspec.structs.replace(posting, messages=masked)
        if wanted == "refuse":
            raise PostRefused(
                "The messages hold the number of a payment card, which this queue does not take"
            )
        word, _, name = wanted.partition(":") if isinstance(wanted, str) else ("", "", "")
        if word != "route":
            raise PostRefused(f"The queue's metadata {KEY} must be mask, refuse or route:NAME")
        return msgspec.structs.replace(posting, queue=name)


def _masked(body: Body) -> Body:
    """The message without card numbers; the same object if it has none, so that its bytes stay as they are."""
    value = orjson.loads(body.text)
    masked = _without_numbers(value)
    return body if masked == value else msgspec.structs.replace(body, text=orjson.dumps(masked))


def _without_numbers(value: Any) -> Any:
    if isinstance(value, str):
        return _NUMBER.sub(_mask, value)
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
        masked = _NUMBER.sub(_mask, text)
        return value if masked == text else masked
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    if isinstance(value, dict):
        return {_without_numbers(key): _without_numbers(item) for key, item in value.items()}
    return value


def _mask(found: re.Match[str]) -> str:
    digits = re.sub("[^0-9]", "", found[0])
    if not _is_card(digits):
        return found[0]
    return "*" * (len(digits) - 4) + digits[-4:]


def _is_card(digits: str) -> bool:
    """Whether the last digit is right (Luhn's algorithm): of ten random numbers one passes."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0
