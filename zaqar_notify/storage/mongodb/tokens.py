"""Tenant tokens in the MongoDB database. The collection is small, and not sharded."""

from __future__ import annotations

from datetime import datetime

from pymongo.read_concern import ReadConcern

from zaqar_notify.models import Token
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_DIGEST, BY_EXPIRY, BY_ID, BY_PROJECT
from zaqar_notify.storage.tokens import Tokens

OUR_TOKENS: Document = {"digest": {"$type": "binData"}, "scope": {"$type": "string"}}
"""The form of our documents: lists pass over documents that others may have put beside them."""


class MongoTokens(Tokens):
    def __init__(self, collections: Collections) -> None:
        self._tokens = collections.tokens
        # A token that a fail-over could undo, or a removal, must be seen as it will stay.
        self._durable = collections.tokens.with_options(read_concern=ReadConcern("majority"))

    async def create(self, token: Token) -> None:
        stored = {
            "_id": token.id,
            "digest": token.digest,
            "project": token.project,
            "scope": token.scope,
            "queues": token.queues,
            "name": token.name,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "last_used_at": token.last_used_at,
        }
        with storage_errors():
            await self._tokens.insert_one(stored)

    async def find(self, digest: bytes) -> Token | None:
        with storage_errors():
            stored = await self._durable.find_one({"digest": digest}, hint=BY_DIGEST)
        return None if stored is None else _token(stored)

    async def get(self, token_id: str) -> Token | None:
        with storage_errors():
            stored = await self._durable.find_one({"_id": token_id, **OUR_TOKENS}, hint=BY_ID)
        return None if stored is None else _token(stored)

    async def list(self, project: str | None, *, marker: str | None, limit: int) -> list[Token]:
        wanted: Document = {"_id": {"$gt": marker or ""}, **OUR_TOKENS}
        if project is not None:
            wanted["project"] = project
        with storage_errors():
            found = await self._durable.find(
                wanted,
                sort=[("_id", 1)],
                limit=limit,
                batch_size=limit,
                hint=BY_ID if project is None else BY_PROJECT,
            ).to_list()
        return [_token(stored) for stored in found]

    async def count(self, project: str) -> int:
        with storage_errors():
            return await self._durable.count_documents({"project": project}, hint=BY_PROJECT)

    async def remove(self, token_id: str) -> None:
        with storage_errors():
            await self._tokens.delete_one({"_id": token_id}, hint=BY_ID)

    async def remove_expired(self, *, now: datetime) -> None:
        expired = {"expires_at": {"$lte": now}, **OUR_TOKENS}
        with storage_errors():
            await rerun(lambda: self._tokens.delete_many(expired, hint=BY_EXPIRY))

    async def note_use(self, token_id: str, *, now: datetime, last: datetime | None) -> None:
        with storage_errors():
            await self._tokens.update_one(
                {"_id": token_id, "last_used_at": last}, {"$set": {"last_used_at": now}}, hint=BY_ID
            )


def _token(stored: Document) -> Token:
    return Token(
        id=stored["_id"],
        digest=bytes(stored["digest"]),
        project=stored["project"],
        scope=stored["scope"],
        queues=stored["queues"],
        name=stored["name"],
        created_at=stored["created_at"],
        expires_at=stored["expires_at"],
        last_used_at=stored["last_used_at"],
    )
