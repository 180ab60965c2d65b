"""Callers, and the policy that permits their operations."""

from __future__ import annotations

from zaqar_notify.auth.callers import Caller, How
from zaqar_notify.auth.policies import Policy, ShippedPolicy, Target
from zaqar_notify.auth.remembered import Remembered

__all__ = ["Caller", "How", "Policy", "Remembered", "ShippedPolicy", "Target"]
