"""Every error of ours has its row, with a status that clients know."""

from __future__ import annotations

import pytest

from api import refusals
from api.errors import RESPONSES, response_for
from zaqar_notify import errors
from zaqar_notify.errors import NotifyError

KINDS = [
    kind
    for module in (errors, refusals)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, NotifyError) and kind is not NotifyError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_an_answer_that_clients_know(kind: type[NotifyError]) -> None:
    status, title = response_for(kind)

    assert status in {400, 401, 403, 404, 409, 415, 500, 503}
    assert title


def test_the_table_names_no_error_twice_for_the_same_answer() -> None:
    for kind, answer in RESPONSES.items():
        inherited = [RESPONSES[base] for base in kind.__mro__[1:] if base in RESPONSES]

        assert answer not in inherited[:1], kind
