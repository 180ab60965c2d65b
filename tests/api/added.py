"""Surfaces that a test adds to the application."""

from __future__ import annotations

import pytest

from api.authentication import Authenticator
from api.requests import Call
from api.routes import surfaces
from api.surfaces import Surface
from tests.api.conftest import PROJECT
from zaqar_notify.auth import Caller
from zaqar_notify.settings import Settings


class Everybody:
    """Asks for no proof: every caller is project p1."""

    async def authenticate(self, request: Call) -> Caller:
        return Caller(PROJECT)


def add_surface(monkeypatch: pytest.MonkeyPatch, surface: Surface) -> None:
    """Have applications that are made from now on serve it beside the others."""

    def all_surfaces(settings: Settings, authenticator: Authenticator) -> tuple[Surface, ...]:
        return (surface, *surfaces(settings, authenticator))

    monkeypatch.setattr("api.app.surfaces", all_surfaces)
