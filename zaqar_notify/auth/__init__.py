"""Callers, and the policy that permits their operations."""

from __future__ import annotations

from zaqar_notify.auth.callers import Caller, How
from zaqar_notify.auth.known_tokens import KnownTokens
from zaqar_notify.auth.policies import Policy, Target, check_right, following, load_policy
from zaqar_notify.auth.remembered import Remembered
from zaqar_notify.auth.revocations import Revocations
from zaqar_notify.auth.tokens import is_operator

__all__ = [
    "Caller",
    "How",
    "KnownTokens",
    "Policy",
    "Remembered",
    "Revocations",
    "Target",
    "check_right",
    "following",
    "is_operator",
    "load_policy",
]
