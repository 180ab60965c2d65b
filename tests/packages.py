"""Packages that are installed beside the service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    site: Path, group: str, names: Mapping[str, str], *, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Install a package without modules in the empty directory `site`, with these entry points."""
    directory = site / "a_package-1.0.dist-info"
    directory.mkdir()
    (directory / "METADATA").write_text("Metadata-Version: 2.1\nName: a-package\nVersion: 1.0\n")
    lines = (f"{name} = {target}\n" for name, target in names.items())
    (directory / "entry_points.txt").write_text(f"[{group}]\n{''.join(lines)}")
    monkeypatch.syspath_prepend(site)
