"""Questions of health and doctor: does MongoDB acknowledge writes, and is the deployment sound?"""

from __future__ import annotations

from zaqar_notify.findings import Finding, ok, problem, warning
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.deployment import is_router
from zaqar_notify.storage.mongodb.failures import refuse_unacknowledged
from zaqar_notify.storage.mongodb.indexes import SHARD_KEYS, lacking_indexes
from zaqar_notify.storage.mongodb.migrations import SCHEMA_VERSION, read_version

PROOF = "proof"
PROOF_MS = 1_500
"""How long a majority may take to have the proof that writes are acknowledged."""


async def prove(collections: Collections) -> None:
    """Write a document of its own. The primary says so when no majority has it in time."""
    write = {"q": {"_id": PROOF}, "u": {"$currentDate": {"at": True}}, "upsert": True}
    answer = await collections.database.command(
        "update",
        collections.duties.name,
        updates=[write],
        writeConcern=collections.messages.write_concern.document | {"wtimeout": PROOF_MS},
    )
    refuse_unacknowledged(answer)


async def diagnose(collections: Collections) -> list[Finding]:
    """Version and kind of the deployment, and whether the indexes are there. It changes nothing."""
    build = await collections.client.admin.command("buildInfo")
    hello = await collections.client.admin.command("hello")
    findings = [ok("store", f"MongoDB {build['version']}, {_kind(hello)}")]
    written = collections.messages.write_concern.document.get("w")
    if str(written) in ("0", "1"):
        findings.append(
            warning(
                "store",
                f"ZAQAR_STORE_URI has w={written}: a fail-over loses acknowledged messages",
                "Write w=majority, or leave it out",
            )
        )
    if collections.is_standalone:
        findings.append(
            warning(
                "store",
                "The MongoDB is a standalone server: it can lose acknowledged messages",
                "Make it a replica set; of one member, if need be",
            )
        )
    elif (members := _members(hello)) in (1, 2):
        findings.append(
            warning(
                "store",
                f"Of the replica set's members {members} {'has' if members == 1 else 'have'} data: "
                "it does not outlive the loss of one",
                "Add members until there are three",
            )
        )
    if is_router(hello):
        findings += await _diagnose_shards(collections)
    version = await read_version(collections.schema)
    if version == 0:
        findings.append(ok("store", "The database is not there yet; the first start makes it"))
        return findings
    if version < SCHEMA_VERSION:
        findings.append(
            ok("store", f"The next start migrates version {version} to {SCHEMA_VERSION}")
        )
    for collection, indexes in (await lacking_indexes(collections.database)).items():
        names = ", ".join(index.document["name"] for index in indexes)
        findings.append(
            problem(
                "store",
                f"The collection {collection} lacks indexes: {names}",
                "Restart a process of the service: a start makes them",
            )
        )
    return findings


async def _diagnose_shards(collections: Collections) -> list[Finding]:
    whole = []
    for name in SHARD_KEYS:
        stats = await collections.database.command("collStats", name)
        if not stats.get("sharded"):
            whole.append(name)
    if not whole:
        return []
    return [
        warning(
            "store",
            f"Collections of the sharded cluster are not sharded: {', '.join(whole)}; they are "
            "on one shard",
            "Shard them as docs/cluster.md says",
        )
    ]


def _members(hello: Document) -> int:
    """How many members of a replica set have its data."""
    return len(hello.get("hosts", [])) + len(hello.get("passives", []))


def _kind(hello: Document) -> str:
    if is_router(hello):
        return "a sharded cluster"
    return f"replica set {hello['setName']}" if "setName" in hello else "standalone"
