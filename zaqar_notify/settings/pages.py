"""The settings as people read them: the example file, the documented page, and the lists of `--help`.

All are made from the sections. `make settings` writes the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from zaqar_notify.settings.loading import SECTIONS, Settings, shown, variable
from zaqar_notify.settings.section import Section

_ABOUT_THE_FILE = """\
# Every setting with its default. Name this file in ZAQAR_CONFIG_FILE, or set the same
# names in the environment. The environment wins.
"""

_ABOUT_THE_PAGE = """\
# Settings

Example: `ZAQAR_LOG_LEVEL=debug zaqar-notify up`.

- The service reads each setting from the environment, or from the file that `ZAQAR_CONFIG_FILE`
  names. The file has lines of `NAME=value` with the same names. The environment wins.
- A wrong value, an unknown name or an unreadable file stops the start with a sentence.
- `zaqar-notify config` prints the effective values and their sources. `zaqar-notify config --help`
  prints this list.
- `make settings` writes this page from the code.
"""

_ABOUT_THE_CLIENT = """
## Client

Commands that call a service (`post`, `tail`, `claim`, …) read these variables if the option is
absent. `receive` reads `ZAQAR_RECEIVE_SECRET` in the same way.

| variable | option |
|---|---|
| `ZAQAR_URL` | `--url` |
| `ZAQAR_PROJECT` | `--project` |
| `ZAQAR_TOKEN` | `--token` |
| `ZAQAR_CLIENT_ID` | `--client-id` |
| `ZAQAR_CA_FILE` | `--ca-file` |
| `ZAQAR_RECEIVE_SECRET` | `receive --secret` |
"""


class Entry(NamedTuple):
    """A setting: its name in the environment, its default as it is written there, its sentence."""

    name: str
    default: str
    sentence: str


def entries(section: type[Section]) -> Iterator[Entry]:
    defaults = Settings()
    for name, field in section.model_fields.items():
        yield Entry(variable(name), shown(getattr(defaults, name)), field.description or "")


def example_file() -> str:
    """The content of settings.example.env."""
    parts = [_ABOUT_THE_FILE]
    for section in SECTIONS:
        parts.append(f"\n# === {section.title} ===\n# {section.__doc__}\n".replace("`", ""))
        parts += [
            f"\n# {each.sentence}\n# {each.name}={each.default}\n" for each in entries(section)
        ]
    return "".join(parts)


def markdown_page() -> str:
    """The content of docs/settings.md."""
    parts = [_ABOUT_THE_PAGE]
    for section in SECTIONS:
        parts.append(f"\n## {section.title}\n\n{section.__doc__}\n\n")
        parts.append("| setting | default | meaning |\n|---|---|---|\n")
        parts += [_row(each) for each in entries(section)]
    return "".join([*parts, _ABOUT_THE_CLIENT])


def _row(entry: Entry) -> str:
    default = f"`{entry.default}`" if entry.default else "empty"
    sentence = entry.sentence.replace("|", "\\|")
    return f"| `{entry.name}` | {default} | {sentence} |\n"
