"""A zaqar.conf, with the defaults of Zaqar 23."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from zaqar_notify.models import undisclosed
from zaqar_notify.settings.conf_file import Section, is_true, read_conf, words_of

DEFAULT = "DEFAULT"
_FORMER_NAMES = {
    (DEFAULT, "sharding"): (DEFAULT, "pooling"),
    ("drivers", "storage"): ("drivers", "message_store"),
}


class Option(NamedTuple):
    """The place of an option: the section, and its name with `_` for `-`."""

    section: str
    name: str

    def __str__(self) -> str:
        return f"[{self.section}] {self.name}"


class ZaqarConf:
    """The options that the file sets."""

    __repr__ = undisclosed

    def __init__(self, path: Path, sections: Mapping[str, Section]) -> None:
        self.path = path
        self._given = {
            Option(*_FORMER_NAMES.get((title, name), (title, name))): text.strip()
            for title, section in sections.items()
            for name, text in section.items()
        }

    def given(self) -> Iterator[Option]:
        """The options in the order of the file."""
        return iter(self._given)

    def get(self, section: str, name: str, default: str = "") -> str:
        """The text of an option; an empty text is as good as none."""
        return self._given.get(Option(section, name)) or default

    def is_true(self, section: str, name: str) -> bool:
        return is_true(self.get(section, name))

    def words(self, section: str, name: str) -> tuple[str, ...]:
        return words_of(self.get(section, name))

    @property
    def message_store(self) -> str:
        """The name of the driver that keeps messages and subscriptions."""
        return self.get("drivers", "message_store", "mongodb")

    @property
    def management_store(self) -> str:
        """The name of the driver that keeps queues, pools, flavors and the catalogue."""
        return self.get("drivers", "management_store", "mongodb")


def read_zaqar_conf(path: Path) -> ZaqarConf:
    """Read the file.

    Raises:
        StartRefused: It can't be read.
    """
    path = path.absolute()
    return ZaqarConf(path, read_conf(str(path), given_as="--from"))
