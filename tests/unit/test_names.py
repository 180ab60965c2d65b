"""Names of queues and projects."""

from __future__ import annotations

import pytest

from zaqar_notify.errors import ProjectInvalid, QueueNameInvalid
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.names import queue_ref


@pytest.mark.parametrize("name", ["q", "A-z_0.9", "...", ".a", "a..", "-", "q" * 64])
def test_a_good_name_is_kept_as_it_is(name: str) -> None:
    assert queue_ref("p1", name) == QueueRef("p1", name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "q" * 65, "q\n", "\nq", "a b", "a/b", "é", "٣", "a\0", "q$", "a+b", "q\ud800"],
)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(QueueNameInvalid, match="1 to 64 characters"):
        queue_ref("p1", name)


def test_a_project_may_have_256_characters_of_any_kind() -> None:
    assert queue_ref("é" * 256, "q").project == "é" * 256

    with pytest.raises(ProjectInvalid, match="257 characters; at most 256"):
        queue_ref("é" * 257, "q")
