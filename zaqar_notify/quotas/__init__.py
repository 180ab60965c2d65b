"""Quotas of projects: the most that one project may have and do, so that the others can go on.

Quotas are of two sorts. *Rates* (messages and requests per second) and what is under way at once (long polls,
deliveries) are counted in memory. The API processes of one host share rates; what is under way is of each process. *Stored*
quotas (queues, subscriptions, bytes) are of all processes.
"""

from zaqar_notify.quotas.known import BELIEVED_SECONDS, KnownLimits, defaults_of, limits_from
from zaqar_notify.quotas.quotas import Quotas, Storing
from zaqar_notify.quotas.rates import Rates
from zaqar_notify.quotas.report import ShownQuota, change, count_all, report

__all__ = [
    "BELIEVED_SECONDS",
    "KnownLimits",
    "Quotas",
    "Rates",
    "ShownQuota",
    "Storing",
    "change",
    "count_all",
    "defaults_of",
    "limits_from",
    "report",
]
