"""Configuration files of OpenStack's services, as `zaqar.conf`."""

from __future__ import annotations

from collections.abc import Mapping

from zaqar_notify.errors import StartRefused

Section = Mapping[str, str]
"""The options of a section by name, with `_` for `-`. Of an option that is given twice the last value counts."""


def read_conf(path: str, *, given_as: str) -> dict[str, Section]:
    """The sections of the file, by name.

    Args:
        given_as: The setting or option that names the file, for the sentence.

    Raises:
        StartRefused: The file can't be read, is no configuration file, or the library that reads it is missing.
    """
    # Only processes with such a file pay for the parser.
    try:
        from oslo_config import cfg, iniparser
    except ImportError as error:
        raise StartRefused(
            f"{given_as} needs the library oslo.config: pip install 'zaqar-notify[openstack]'"
        ) from error

    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(path, sections).parse()
    except (OSError, UnicodeDecodeError, iniparser.ParseError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no configuration file"
        # The parser's own sentence has a line of the file, which may hold a secret.
        raise StartRefused(f"{given_as}={path!r} can't be read: {reason}") from None
    return {
        title: {name.replace("-", "_"): values[-1] for name, values in section.items()}
        for title, section in sections.items()
    }


def words_of(text: str) -> tuple[str, ...]:
    """The words of an option that is a list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def is_true(text: str) -> bool:
    """Whether an option of the kind yes or no is set."""
    return text.strip().lower() in ("1", "true", "yes", "on")
