"""Queues of several hash tags: the contract's questions that concern two queues, on a Redis Cluster."""

from tests.contract.test_dead_letters import *  # noqa: F403
from tests.contract.test_posts_with_jobs import *  # type: ignore[assignment]  # noqa: F403
