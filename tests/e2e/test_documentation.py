"""`/docs` in a real browser that reaches nothing but the service."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.browser import shown
from tests.service import Service


def test_the_page_shows_the_operations_without_a_network(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")
    service.start()

    try:
        page = shown(f"{service.url}/docs", tmp_path / "profile")
    finally:
        service.stop()

    assert "Claim messages" in page
    assert "Subscribe to a queue" in page
