"""The home document of version 2."""

from __future__ import annotations

from api.zaqar.home import ENTRIES, QUEUE, entry, of_one_address, resources

_SUBSCRIPTION = QUEUE | {"subscriptions_id": "subscriptions_id"}
_SUBSCRIPTIONS_PAGE = QUEUE | {"marker": "marker", "limit": "subscription_limit"}
_SUBSCRIPTIONS = "/queues/{queue_name}/subscriptions"
_ONE_SUBSCRIPTION = f"{_SUBSCRIPTIONS}/{{subscriptions_id}}"

ALL_ENTRIES = ENTRIES | {
    "queue": entry("/queues/{queue_name}", QUEUE, "GET", "PUT", "DELETE", "PATCH"),
    "queue_share": entry("/queues/{queue_name}/share", QUEUE, "POST", posts=True),
    "queue_purge": entry("/queues/{queue_name}/purge", QUEUE, "POST", posts=True),
    "message_get": entry(
        "/queues/{queue_name}/messages/{message_id}", QUEUE | {"message_id": "message_id"}, "GET"
    ),
    "subscriptions_get": entry(f"{_SUBSCRIPTIONS}{{?marker,limit}}", _SUBSCRIPTIONS_PAGE, "GET"),
    "subscriptions_post": entry(
        _SUBSCRIPTIONS, QUEUE | {"limit": "subscription_limit"}, "POST", posts=True
    ),
    "subscription": entry(_ONE_SUBSCRIPTION, _SUBSCRIPTION, "GET", "DELETE"),
    "subscription_patch": entry(_ONE_SUBSCRIPTION, _SUBSCRIPTION, "PATCH", posts=True),
}

_TOPIC = {"topic_name": "topic_name"}
_TOPICS_PAGE = {"marker": "marker", "limit": "topic_limit", "detailed": "detailed"}

ALL_ENTRIES |= {
    "topics": entry("/topics{?marker,limit,detailed}", _TOPICS_PAGE, "GET"),
    "topic": entry("/topics/{topic_name}", _TOPIC, "GET", "PUT", "DELETE", "PATCH"),
    "topic_stats": entry("/topics/{topic_name}/stats", _TOPIC, "GET"),
    "topic_purge": entry("/topics/{topic_name}/purge", _TOPIC, "POST", posts=True),
    "topic_share": entry("/topics/{topic_name}/share", _TOPIC, "POST", posts=True),
    "topic_messages_post": entry("/topics/{topic_name}/messages", _TOPIC, "POST", posts=True),
    "topic_subscriptions_post": entry(
        "/topics/{topic_name}/subscriptions", _TOPIC, "POST", posts=True
    ),
}

_PAGE = {"detailed": "detailed", "marker": "marker"}

OF_OPERATORS = {
    "pools": entry("/pools{?detailed,limit,marker}", _PAGE | {"limit": "pool_limit"}, "GET"),
    "pool": entry(
        "/pools/{pool_name}", {"pool_name": "pool_name"}, "GET", "PUT", "PATCH", "DELETE"
    ),
    "flavors": entry("/flavors{?detailed,limit,marker}", _PAGE | {"limit": "flavor_limit"}, "GET"),
    "flavor": entry(
        "/flavors/{flavor_name}", {"flavor_name": "flavor_name"}, "GET", "PUT", "PATCH", "DELETE"
    ),
    "health": of_one_address("/health", "GET"),
}
"""The relations that version 2 has with `ZAQAR_ADMIN_MODE`, too."""

RESOURCES = resources("/v2", ALL_ENTRIES, OF_OPERATORS)
