"""Callers, and the policy that permits their operations."""

from __future__ import annotations

from zaqar_notify.auth.callers import Caller
from zaqar_notify.auth.policies import EVERYTHING, Policy, Target

__all__ = ["EVERYTHING", "Caller", "Policy", "Target"]
