"""The collections of a MongoDB database as tables."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from anyio import to_thread
from bson import CodecOptions, ObjectId, decode_all
from bson.codec_options import DatetimeConversion
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps, loads
from pymongo.errors import OperationFailure

from mcp_hub.adapters import mongodb_client
from mcp_hub.adapters.errors import InvalidArgument, NotFound, names_hint
from mcp_hub.adapters.sources.mongodb_rows import parse_filter, row_of
from mcp_hub.adapters.sources.port import Batch, Query, Row
from mcp_hub.adapters.sources.querying import check_parts

TIMEOUT_S = 30.0
SETTLE_S = 10.0
_FIELD = re.compile(r"[^$.\0][^\0]{0,255}")
_DOCUMENTS = 10_000
"""The most documents in one answer; it has at most 16 MiB in any case."""
_WRONG_QUERIES = (2, 9, 14, 31249, 31250, 31253, 31254, 40352, 40353, 51091)
# Dates that Python's datetime cannot hold must not stop a whole collection.
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class MongoDBSource:
    """Reads a collection's documents in the order of their `_id`.

    Documents written meanwhile may or may not be among them. A collection grows by its `_id`s,
    which must be of one type. Those that are ObjectIds grow to the second alone where several
    programs make them: the youngest are left for the next time. The user needs the role `read`.
    """

    def __init__(
        self, url: str, setting: str, *, timeout_s: float = TIMEOUT_S, settle_s: float = SETTLE_S
    ) -> None:
        """`setting` is what to name where `url` is wrong; `timeout_s` is for each call, and
        `settle_s` how old an ObjectId must be for documents to be added behind it.

        Raises:
            InvalidArgument: `url` names no database, or an option is unknown or wrong.
        """
        self._settle_s = settle_s
        self._target = mongodb_client.parse_url(url, setting)
        self._client = mongodb_client.connect(self._target, timeout_s)
        self._database = self._client[self._target.database]

    async def rows(self, item: str, query: Query) -> AsyncGenerator[list[Row], None]:
        check_parts(query, ("filter", "fields", "limit"), "a MongoDB collection")
        found = self._documents(item, query, parse_filter(query.filter or {}), _projection(query))
        async with aclosing(found) as batches:
            async for documents in batches:
                yield await to_thread.run_sync(_rows, documents)

    async def rows_after(
        self, item: str, query: Query, cursor: str | None
    ) -> AsyncGenerator[Batch, None]:
        check_parts(query, ("filter", "fields", "limit"), "a MongoDB collection that grows")
        conditions = [parse_filter(query.filter or {})]
        if cursor is not None:
            conditions.append({"_id": {"$gt": loads(cursor)["_id"]}})
        if self._settle_s:
            young = ObjectId.from_datetime(datetime.now(UTC) - timedelta(seconds=self._settle_s))
            conditions.append({"_id": {"$not": {"$gte": young}}})
        projection = _projection(query)
        hidden = projection is not None and not projection["_id"]
        shown = projection and {**projection, "_id": True}
        found = self._documents(item, query, {"$and": conditions}, shown)
        async with aclosing(found) as batches:
            async for documents in batches:
                behind = dumps({"_id": documents[-1]["_id"]}, json_options=CANONICAL_JSON_OPTIONS)
                for document in documents if hidden else ():
                    del document["_id"]
                yield Batch(await to_thread.run_sync(_rows, documents), behind)

    async def _documents(
        self, item: str, query: Query, filter: dict[str, Any], projection: dict[str, bool] | None
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        existing = await self.items()
        if item not in existing:
            raise NotFound(
                f"There is no collection {item!r} in {self._target.shown}.",
                names_hint(item, existing, "collections"),
            )
        cursor = self._database[item].find_raw_batches(
            filter, projection, sort=[("_id", 1)], limit=query.limit or 0, batch_size=_DOCUMENTS
        )
        async with cursor:
            while True:
                with mongodb_client.translated(self._target):
                    try:
                        # The driver types it as a document; it is the bytes of many.
                        batch = cast(bytes | None, await anext(cursor, None))
                    except OperationFailure as error:
                        if error.code in _WRONG_QUERIES:
                            raise _wrong(error) from error
                        raise
                if batch is None:
                    return
                if documents := await to_thread.run_sync(decode_all, batch, _CODEC):
                    yield documents

    async def items(self) -> list[str]:
        with mongodb_client.translated(self._target):
            names = await self._database.list_collection_names(authorizedCollections=True)
        return sorted(name for name in names if not name.startswith("system."))

    async def check(self) -> str:
        with mongodb_client.translated(self._target):
            await self._database.list_collection_names(authorizedCollections=True)
            return await mongodb_client.describe(self._client, self._target)

    async def close(self) -> None:
        await self._client.close()


def _projection(query: Query) -> dict[str, bool] | None:
    if query.fields is None:
        return None
    for field in query.fields:
        if not _FIELD.fullmatch(field):
            raise InvalidArgument(
                f"{field[:80]!r} is not the name of a field.",
                "Write a name such as age, or address.city for one within a document.",
            )
    chosen = dict.fromkeys(query.fields, True)
    return chosen if "_id" in chosen else {**chosen, "_id": False}


def _rows(documents: list[dict[str, Any]]) -> list[Row]:
    return [row_of(document) for document in documents]


def _wrong(error: OperationFailure) -> InvalidArgument:
    reason = (error.details or {}).get("errmsg", str(error))
    return InvalidArgument(
        f"MongoDB does not take the query: {str(reason)[:300]}.",
        "Check the filter's values and the fields; of a document and a field within it name one.",
    )
