"""Questions of the doctor: does Redis keep what it acknowledges, and is the store as the URI says?"""

from __future__ import annotations

from zaqar_notify.findings import Finding, ok, warning
from zaqar_notify.storage.redis.connection import Connection
from zaqar_notify.storage.redis.deployment import on_primaries, version_of, weaknesses
from zaqar_notify.storage.redis.keys import Keys


async def diagnose(connection: Connection, keys: Keys) -> list[Finding]:
    """Version, promises and memory of the servers. It changes nothing."""
    client = connection.client
    primaries = await on_primaries(client, "INFO", "memory")
    of = "one server" if len(primaries) == 1 else f"{len(primaries)} primaries"
    findings = [ok("store", f"Redis {await version_of(client)}, {of}, {keys.tags} hash tags")]
    findings += [
        warning("store", f"Redis can lose acknowledged messages: {weak}", "Change redis.conf")
        for weak in await weaknesses(client)
    ]
    for memory in primaries:
        limit, used = int(memory["maxmemory"]), int(memory["used_memory"])
        if limit and used > 0.9 * limit:
            findings.append(
                warning(
                    "store",
                    f"Redis has used {used} of {limit} bytes of maxmemory; posts are refused when it is full",
                    "Raise maxmemory, or let messages be consumed",
                )
            )
    return findings
