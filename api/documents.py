"""Reads a request's body straight into a type, and skips unknown fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from zaqar_notify.errors import BodyInvalid
from zaqar_notify.rules.jsontext import MAX_DEPTH, NOT_JSON, check_json_text

T = TypeVar("T")


def read_document(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """The body, as a value of the decoder's type.

    Raises:
        BodyInvalid: The body is empty or no JSON, or a field is missing or of the wrong type.
    """
    if not body:
        raise BodyInvalid("A JSON body is required")
    check_json_text(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BodyInvalid(f"The body does not fit: {error}") from error
    except msgspec.DecodeError as error:
        raise BodyInvalid(f"{NOT_JSON}: {error}") from error
    except RecursionError as error:
        raise BodyInvalid(f"The JSON is nested deeper than {MAX_DEPTH} levels") from error


class Reader(Generic[T]):
    """Reads bodies as a type, and notices unknown fields.

    Args:
        strict: The same type with `forbid_unknown_fields`. It comes first and nearly always fits.
    """

    def __init__(self, kind: type[T], *, strict: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._strict = msgspec.json.Decoder(strict)

    def read(self, body: bytes, *, on_unread: Callable[[], None]) -> T:
        """As `read_document`; a valid body with unknown fields calls `on_unread`."""
        if body:
            check_json_text(body)
        try:
            return self._strict.decode(body)
        except (msgspec.DecodeError, RecursionError):
            read = read_document(body, self._decoder)
        on_unread()
        return read
