"""Names of keys, and the hash tag that each queue has.

All keys of one tag are on one server of a Redis Cluster, and a script touches the keys of one tag only. A store
has a number of tags that is chosen when it is made. A client's queue has the tag of its deliveries' partition
(`delivery.partitions.partition_of`), and so have the outbox and the retry queue of that partition, whenever the
number of partitions is a multiple of the number of tags.
"""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

from zaqar_notify.models import INTERNAL_PROJECT, QueueRef
from zaqar_notify.storage.base.transfer import ARRIVING_PREFIX
from zaqar_notify.storage.internal import OUTBOX_PREFIX, RETRY_PREFIX

PREFIX = "zaqar"
MOST_TAGS = 1024


class Keys:
    """The names of one store's keys.

    Args:
        prefix: The beginning of all of them; stores of different prefixes know nothing of each other.
        tags: How many hash tags the store has.
    """

    def __init__(self, prefix: str, tags: int) -> None:
        self.prefix = prefix
        self.tags = tags
        self.queue = lru_cache(maxsize=65536)(self._queue)

    @property
    def store(self) -> str:
        """The hash of what was decided when the store was made."""
        return f"{self.of_tag(0)}:store"

    def of_tag(self, tag: int) -> str:
        """The beginning of the keys that a tag has for all its queues."""
        return f"{self.prefix}{{{tag}}}"

    def of_process(self, process_id: str) -> str:
        """A channel of one process."""
        return f"{self.of_tag(0)}:process:{process_id}"

    def tag_of(self, ref: QueueRef) -> int:
        if ref.project == INTERNAL_PROJECT:
            for prefix in (OUTBOX_PREFIX, RETRY_PREFIX):
                number = ref.name.removeprefix(prefix)
                if number != ref.name and number.isdecimal():
                    return int(number) % self.tags
            if ref.name.startswith(ARRIVING_PREFIX):
                return self.tag_of(_of_arriving(ref.name))
        return crc32(f"{ref.project}\n{ref.name}".encode()) % self.tags

    def _queue(self, ref: QueueRef) -> tuple[int, str]:
        """The queue's tag, and the beginning of its keys."""
        tag = self.tag_of(ref)
        return tag, f"{self.of_tag(tag)}:q:{ref.project}/{ref.name}"


def member_of(ref: QueueRef) -> str:
    """A client's queue in the sorted names of queues: by project, then by name."""
    return f"{ref.project}\0{ref.name}"


def _of_arriving(name: str) -> QueueRef:
    """The queue for which an internal queue of `base.transfer.arriving` stands."""
    _, _, length, rest = name.split(".", 3)
    project, queue = rest[: int(length)], rest[int(length) + 1 :]
    return QueueRef(project, queue)


def ref_of(member: str) -> QueueRef:
    project, _, name = member.partition("\0")
    return QueueRef(project, name)
