"""Vectors in Qdrant: on a server, or in the client's own local mode."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import UUID, uuid5

import anyio
import httpx
import numpy as np
from anyio import to_thread
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from mcp_hub.adapters.errors import Conflict, Unavailable
from mcp_hub.adapters.vectors.checking import check_dimensions, checked_query, checked_rows
from mcp_hub.adapters.vectors.port import Hit, Where

_ROWS_PER_REQUEST = 256
_NAMESPACE = UUID("5b0f7d3c-6f52-4e0e-9d5c-0d8f5a8f3a57")
"""What our ids become UUIDs in; changing it would lose every stored row."""

_HINTS = {
    401: "Give the server's API key in vectors_url or in QDRANT_API_KEY.",
    403: "Give an API key that may read and write, in vectors_url or in QDRANT_API_KEY.",
    404: "The collection was removed meanwhile, or the URL is not Qdrant's; try again.",
    413: "Store smaller payloads.",
    429: "The server is at its limit; try again later.",
}
_CHECK_SERVER = "Check that Qdrant runs and that vectors_url names it."


class QdrantVectors:
    """The collection `collection` of the Qdrant at `location`.

    `location` is a server's URL, with its API key as the user (`https://KEY@host:6333`) or in
    QDRANT_API_KEY; anything else is the folder of the client's local mode, which one process may
    open at a time and which suits some ten thousand rows.

    Qdrant's ids are numbers or UUIDs: a row's is the UUIDv5 of its id, which is kept beside the
    payload. A server's index is approximate where a collection is large: a search may miss a row.
    """

    def __init__(self, location: str, collection: str, *, timeout_s: float = 10.0) -> None:
        self._collection = collection
        self._timeout_s = timeout_s
        self._dimensions: int | None = None
        self._client: AsyncQdrantClient | QdrantClient | None = None
        if location.startswith(("http://", "https://")):
            self._shown, key = _without_key(location)
            self._folder = None
            self._client = AsyncQdrantClient(
                url=self._shown,
                port=urlsplit(self._shown).port or 6333,
                api_key=key or os.environ.get("QDRANT_API_KEY"),
                timeout=math.ceil(timeout_s),
                # That check is a request of its own, on a thread, whose answer is only a warning.
                check_compatibility=False,
            )
        else:
            self._shown, self._folder = location, Path(location)
        # Local mode is not made for several threads.
        self._local = anyio.CapacityLimiter(1)

    async def upsert(
        self,
        ids: Sequence[str],
        matrix: NDArray[np.float32],
        payloads: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        rows, kept = await to_thread.run_sync(checked_rows, ids, matrix, payloads)
        if not ids:
            return
        check_dimensions(self._collection, await self._ensure(rows.shape[1]), rows.shape[1])
        for start in range(0, len(ids), _ROWS_PER_REQUEST):
            batch = slice(start, start + _ROWS_PER_REQUEST)
            points = await to_thread.run_sync(_points, ids[batch], rows[batch], kept[batch])
            await self._of_collection("upsert", points=points, wait=True)

    async def delete(self, ids: Sequence[str]) -> None:
        if await self._known() is None:
            return
        for start in range(0, len(ids), _ROWS_PER_REQUEST):
            points = models.PointIdsList(
                points=[_point_id(id_) for id_ in ids[start : start + _ROWS_PER_REQUEST]]
            )
            await self._of_collection("delete", points_selector=points, wait=True)

    async def present(self, ids: Sequence[str]) -> set[str]:
        if await self._known() is None:
            return set()
        found: set[str] = set()
        for start in range(0, len(ids), _ROWS_PER_REQUEST):
            points = {_point_id(id_): id_ for id_ in ids[start : start + _ROWS_PER_REQUEST]}
            records = await self._of_collection(
                "retrieve", ids=list(points), with_payload=False, with_vectors=False
            )
            found |= {points[str(record.id)] for record in records}
        return found

    async def search(
        self, vector: NDArray[np.float32], *, limit: int = 10, where: Where | None = None
    ) -> list[Hit]:
        row, wanted = checked_query(vector, limit, where)
        dimensions = await self._known()
        if dimensions is None:
            return []
        check_dimensions(self._collection, dimensions, row.size)
        found = await self._of_collection(
            "query_points",
            query=row.tolist(),
            limit=limit,
            query_filter=_filter(wanted) if wanted else None,
            with_payload=True,
        )
        return [
            Hit(point.payload["id"], point.score, point.payload["payload"])
            for point in found.points
        ]

    async def count(self) -> int:
        if await self._known() is None:
            return 0
        counted = await self._of_collection("count", exact=True)
        return int(counted.count)

    async def check(self) -> str:
        if self._folder is not None:
            await self._call("get_collections")
            return f"Qdrant's local mode, {self._shown}"
        information = await self._call("info")
        return f"Qdrant {information.version}, {self._shown}"

    async def close(self) -> None:
        if isinstance(self._client, AsyncQdrantClient):
            await self._client.close()
        elif self._client is not None:
            await to_thread.run_sync(self._client.close, limiter=self._local)
            self._client = None

    async def _ensure(self, dimensions: int) -> int:
        """The dimensions of the collection, made with `dimensions` where it is not there."""
        known = await self._known()
        if known is not None:
            return known
        size = models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
        try:
            await self._of_collection("create_collection", vectors_config=size)
        except Unavailable:
            # Another process may have made it at the same moment.
            if (known := await self._known()) is None:
                raise
            return known
        self._dimensions = dimensions
        return dimensions

    async def _known(self) -> int | None:
        """The dimensions of the collection; None where it is not there yet."""
        if self._dimensions is None and await self._of_collection("collection_exists"):
            information = await self._of_collection("get_collection")
            vectors = information.config.params.vectors
            cosine = models.Distance.COSINE
            if not isinstance(vectors, models.VectorParams) or vectors.distance != cosine:
                raise Conflict(
                    f"The collection {self._collection!r} at {self._shown} was made for other "
                    "vectors: named ones, or ones compared otherwise than by their cosine.",
                    "Use another collection.",
                )
            self._dimensions = vectors.size
        return self._dimensions

    async def _of_collection(self, method: str, **options: Any) -> Any:
        return await self._call(method, collection_name=self._collection, **options)

    async def _call(self, method: str, **options: Any) -> Any:
        """Call `method` of the client, within the deadline and with its errors translated."""
        with self._translated():
            if self._folder is not None:
                call = partial(self._call_local, method, options)
                return await to_thread.run_sync(call, limiter=self._local)
            with anyio.fail_after(self._timeout_s):
                return await getattr(self._client, method)(**options)

    def _call_local(self, method: str, options: dict[str, Any]) -> Any:
        if self._client is None:
            self._client = QdrantClient(
                path=str(self._folder), force_disable_check_same_thread=True
            )
        return getattr(self._client, method)(**options)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except UnexpectedResponse as error:
            if error.status_code == 404:
                self._dimensions = None
            reason = f"{error.status_code} {error.reason_phrase}"
            hint = _HINTS.get(error.status_code or 0, "See the server's log.")
            raise self._unavailable(reason, hint) from error
        except ResourceExhaustedResponse as error:
            raise self._unavailable("429 Too Many Requests", _HINTS[429]) from error
        except (ResponseHandlingException, httpx.HTTPError) as error:
            cause = getattr(error, "source", error)
            reason = str(cause).rstrip(".") or type(cause).__name__
            raise self._unavailable(reason, _CHECK_SERVER) from error
        except TimeoutError as error:
            reason = f"no answer within {self._timeout_s:g} s"
            raise self._unavailable(reason, "Try again, or see what keeps it busy.") from error
        except OSError as error:
            raise self._unavailable(
                str(error), "Check that the folder may be written and the disk has space."
            ) from error
        except RuntimeError as error:
            # What local mode raises where another process holds the folder.
            if self._folder is None or "already accessed" not in str(error):
                raise
            raise self._unavailable(
                "another process has it open",
                "Close the other process, or use a Qdrant server, which many may share.",
            ) from error

    def _unavailable(self, reason: str, hint: str) -> Unavailable:
        return Unavailable(f"Qdrant at {self._shown} is unavailable: {reason}.", hint)


def _without_key(url: str) -> tuple[str, str | None]:
    """The URL without its user part, and the API key that this was."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    key = unquote(user.strip(":")) or None
    return urlunsplit(parts._replace(netloc=host)), key


def _point_id(id_: str) -> str:
    return str(uuid5(_NAMESPACE, id_))


def _points(
    ids: Sequence[str], rows: NDArray[np.float32], payloads: Sequence[dict[str, Any]]
) -> list[models.PointStruct]:
    return [
        models.PointStruct(
            id=_point_id(id_), vector=row.tolist(), payload={"id": id_, "payload": payload}
        )
        for id_, row, payload in zip(ids, rows, payloads, strict=True)
    ]


def _filter(where: Where) -> models.Filter:
    # Quotes keep the dots of a key from being read as a path.
    return models.Filter(
        must=[
            models.FieldCondition(key=f'payload."{key}"', match=models.MatchValue(value=value))
            for key, value in where.items()
        ]
    )
