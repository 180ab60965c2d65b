"""Callers, and the policy that permits their operations."""

from __future__ import annotations

from zaqar_notify.auth.callers import Caller, How
from zaqar_notify.auth.policies import Policy, Target, following, load_policy
from zaqar_notify.auth.remembered import Remembered

__all__ = ["Caller", "How", "Policy", "Remembered", "Target", "following", "load_policy"]
