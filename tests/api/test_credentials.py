"""Any headers carry a token, or are refused."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from api.credentials import MAX_TOKEN_BYTES, token_of
from api.refusals import HeaderInvalid, Unauthorized

WORDS = st.binary(max_size=40) | st.sampled_from(
    [b"", b"Bearer", b"bearer x", b"Bearer  zqn_", b"Basic x"]
)


@given(st.dictionaries(st.sampled_from([b"authorization", b"x-auth-token"]), WORDS))
def test_a_token_is_one_printable_word_and_anything_else_is_refused(
    headers: dict[bytes, bytes],
) -> None:
    with contextlib.suppress(HeaderInvalid, Unauthorized):
        token = token_of(headers, ())

        assert token.isascii()
        assert token.isprintable()
        assert " " not in token
        assert 0 < len(token) <= MAX_TOKEN_BYTES
        assert len(headers) == 1
