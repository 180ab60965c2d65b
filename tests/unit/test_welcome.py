"""How a service names the command line to a person."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zaqar_notify.cli.welcome import client, program, some_token


@pytest.fixture
def bin_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an installation whose Python this is, at a path with a blank; the PATH leads elsewhere."""
    directory = tmp_path / "my bin"
    directory.mkdir()
    monkeypatch.setattr(sys, "executable", str(directory / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return directory


def make_script(directory: Path) -> Path:
    script = directory / "zaqar-notify"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return script


def test_it_is_named_by_its_path_where_the_path_does_not_lead_to_it(bin_directory: Path) -> None:
    script = make_script(bin_directory)
    make_script(bin_directory.parent)

    assert program() == f"'{script}'"


def test_it_is_named_by_its_name_where_the_path_leads_to_it(
    bin_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_script(bin_directory)
    monkeypatch.setenv("PATH", str(bin_directory))

    assert program() == "zaqar-notify"


def test_without_a_script_the_module_is_named(bin_directory: Path) -> None:
    assert program() == f"'{bin_directory / 'python'}' -m zaqar_notify"


def test_an_address_that_a_shell_would_expand_is_quoted() -> None:
    assert "--url 'http://[::]:8888' --project demo" in client("http://[::]:8888")


def test_where_only_keystone_s_tokens_count_openstack_s_client_makes_one() -> None:
    assert some_token(["keystone"]) == "openstack token issue -f value -c id"
    assert "token create --project demo" in some_token(["token", "keystone"])
