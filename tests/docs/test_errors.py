"""The error page has every error, as it is answered."""

from __future__ import annotations

import inspect
import re

from api import errors as answers
from api import headers, refusals, requests
from api.errors import response_for
from api.refusals import HeaderInvalid
from api.zaqar import admission, messages
from tests.docs.pages import named, read, rows, section
from zaqar_notify import errors
from zaqar_notify.errors import NotifyError

PAGE = read("errors.md")
KINDS = [
    kind
    for module in (errors, refusals)
    for kind in vars(module).values()
    if isinstance(kind, type)
    and issubclass(kind, NotifyError)
    and kind.__module__ == module.__name__
    if kind is not NotifyError
]


def test_the_table_has_every_error_with_its_status_and_title_in_the_order_of_the_code() -> None:
    documented = [row[:3] for row in rows(PAGE.split("\n## ")[0]) if len(row) == 5]

    assert documented == [[f"`{kind.__name__}`", *_answer(kind)] for kind in KINDS]


def test_answers_without_a_class_are_those_of_the_code() -> None:
    documented = {row[0]: row[1] for row in rows(PAGE.split("\n## ")[0]) if len(row) == 3}

    for answer in (
        answers.refused(404, None),
        answers.method_not_allowed(b"GET"),
        answers.failure(b"req-1"),
    ):
        title = documented[str(int(answer.status))].strip("`")
        assert f'"title":"{title}"'.encode() in answer.whole
    assert not answers.NOT_ACCEPTABLE.body
    assert documented[str(int(answers.NOT_ACCEPTABLE.status))] == "no body"


def test_every_title_of_a_header_is_listed() -> None:
    code = "".join(map(inspect.getsource, (headers, requests, admission, messages)))
    raised = set(re.findall(rf'{HeaderInvalid.__name__}\(\s*"([^"]+)"', code))
    documented = {named(row[0])[0] for row in rows(section(PAGE, "## Titles of headers"))}

    assert documented == raised


def _answer(kind: type[NotifyError]) -> tuple[str, str]:
    status, title = response_for(kind)
    return str(int(status)), f"`{title}`"
