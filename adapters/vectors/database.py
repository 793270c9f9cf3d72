"""Vectors as tables of the database, searched exactly in memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import anyio
import numpy as np
from anyio import to_thread
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, and_, delete, func, or_, select, update

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import vector_collections, vectors
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.vectors.checking import check_dimensions, checked_query, checked_rows
from mcp_hub.adapters.vectors.port import Hit, Where
from mcp_hub.adapters.vectors.snapshot import Row, Snapshot

_ROWS_PER_WRITE = 1_000
_ROWS_PER_READ = 1_000
_IDS_PER_STATEMENT = 500


class _State(NamedTuple):
    dimensions: int
    version: int
    deletion_version: int


@dataclass(frozen=True, slots=True)
class _Changes:
    """What a process must read to know the collection as it is in `state`."""

    state: _State
    rows: list[Row]
    all_rows: bool


class DatabaseVectors:
    """The collection `collection` in `database`.

    A process keeps the matrix in memory (4 bytes a number) and searches all of it. Before each
    search it asks for the collection's version, which every transaction that writes raises, and
    reads the rows written since; all rows, when some were removed.
    """

    def __init__(self, database: Database, collection: str) -> None:
        self._database = database
        self._collection = collection
        self._snapshot: Snapshot | None = None
        self._reading = anyio.Lock()

    async def upsert(
        self,
        ids: Sequence[str],
        matrix: NDArray[np.float32],
        payloads: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        rows, kept = await to_thread.run_sync(checked_rows, ids, matrix, payloads)
        for start in range(0, len(ids), _ROWS_PER_WRITE):
            batch = slice(start, start + _ROWS_PER_WRITE)
            write = partial(self._upsert, ids=ids[batch], rows=rows[batch], payloads=kept[batch])
            await self._database.write(write)

    async def delete(self, ids: Sequence[str]) -> None:
        if ids:
            await self._database.write(lambda connection: self._delete(connection, ids))

    async def present(self, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(ids), _IDS_PER_STATEMENT):
            statement = select(vectors.c.id).where(
                vectors.c.collection == self._collection,
                vectors.c.id.in_(ids[start : start + _IDS_PER_STATEMENT]),
            )
            found |= await self._database.read(
                partial(_ids, statement=statement), one_statement=True
            )
        return found

    async def search(
        self, vector: NDArray[np.float32], *, limit: int = 10, where: Where | None = None
    ) -> list[Hit]:
        row, wanted = checked_query(vector, limit, where)
        snapshot = await self._current()
        if snapshot is None:
            return []
        check_dimensions(self._collection, snapshot.dimensions, row.size)
        return await to_thread.run_sync(snapshot.search, row, limit, wanted)

    async def count(self) -> int:
        statement = select(func.count()).where(vectors.c.collection == self._collection)
        return await self._database.read(
            lambda connection: connection.execute(statement).scalar_one(), one_statement=True
        )

    async def check(self) -> str:
        return f"exact search, {await self._database.check()}"

    async def close(self) -> None:
        """The database is closed by whoever opened it."""
        self._snapshot = None

    async def _current(self) -> Snapshot | None:
        """The collection as it is now; None before its first row."""
        state = await self._database.read(self._state, one_statement=True)
        if state is None:
            return None
        if self._snapshot is None or self._snapshot.version < state.version:
            async with self._reading:
                await self._catch_up(state.version)
        return self._snapshot

    async def _catch_up(self, version: int) -> None:
        """Hold the collection at `version` or a later one, unless another caller did so."""
        known = self._snapshot.version if self._snapshot else 0
        if known < version:
            changes = await self._database.read(lambda c: self._changes(c, known))
            self._snapshot = await to_thread.run_sync(_apply, self._snapshot, changes)

    def _state(self, connection: Connection) -> _State | None:
        row = connection.execute(
            select(
                vector_collections.c.dimensions,
                vector_collections.c.version,
                vector_collections.c.deletion_version,
            ).where(vector_collections.c.name == self._collection)
        ).one_or_none()
        return row and _State(*row)

    def _changes(self, connection: Connection, known: int) -> _Changes | None:
        state = self._state(connection)
        if state is None:
            return None
        all_rows = state.deletion_version > known
        rows = [row for page in self._pages(connection, 0 if all_rows else known) for row in page]
        return _Changes(state, rows, all_rows)

    def _pages(self, connection: Connection, after: int) -> Iterator[list[Row]]:
        """The rows written after version `after`; in pages, so that the loop turns between."""
        version, id_ = vectors.c.version, vectors.c.id
        last: tuple[int, str | None] = (after, None)
        while True:
            beyond = version > last[0]
            if last[1] is not None:
                beyond = or_(beyond, and_(version == last[0], id_ > last[1]))
            found = connection.execute(
                select(id_, vectors.c.vector, vectors.c.payload, version)
                .where(vectors.c.collection == self._collection, version >= last[0], beyond)
                .order_by(version, id_)
                .limit(_ROWS_PER_READ)
            ).all()
            yield [Row(row.id, row.vector, row.payload) for row in found]
            if len(found) < _ROWS_PER_READ:
                return
            last = (found[-1].version, found[-1].id)

    def _upsert(
        self,
        connection: Connection,
        ids: Sequence[str],
        rows: NDArray[np.float32],
        payloads: Sequence[dict[str, Any]],
    ) -> None:
        dimensions = rows.shape[1]
        make = insert_for(connection, vector_collections).values(
            name=self._collection, dimensions=dimensions, version=0, deletion_version=0
        )
        connection.execute(make.on_conflict_do_nothing())
        state = connection.execute(
            update(vector_collections)
            .where(vector_collections.c.name == self._collection)
            .values(version=vector_collections.c.version + 1)
            .returning(vector_collections.c.dimensions, vector_collections.c.version)
        ).one()
        check_dimensions(self._collection, state.dimensions, dimensions)
        insert = insert_for(connection, vectors)
        put = insert.on_conflict_do_update(
            index_elements=["collection", "id"],
            set_={name: insert.excluded[name] for name in ("version", "vector", "payload")},
        )
        key = {"collection": self._collection, "version": state.version}
        connection.execute(
            put,
            [
                {**key, "id": id_, "vector": row.astype("<f4").tobytes(), "payload": payload}
                for id_, row, payload in zip(ids, rows, payloads, strict=True)
            ],
        )

    def _delete(self, connection: Connection, ids: Sequence[str]) -> None:
        raised = vector_collections.c.version + 1
        connection.execute(
            update(vector_collections)
            .where(vector_collections.c.name == self._collection)
            .values(version=raised, deletion_version=raised)
        )
        for start in range(0, len(ids), _IDS_PER_STATEMENT):
            connection.execute(
                delete(vectors).where(
                    vectors.c.collection == self._collection,
                    vectors.c.id.in_(ids[start : start + _IDS_PER_STATEMENT]),
                )
            )


def _ids(connection: Connection, statement: Select[str]) -> set[str]:
    return set(connection.execute(statement).scalars())


def _apply(known: Snapshot | None, changes: _Changes | None) -> Snapshot | None:
    """The collection with `changes`, made from what was `known` of it as far as that holds."""
    if changes is None:
        return None
    if known is None or changes.all_rows:
        known = Snapshot.empty(changes.state.dimensions)
    return known.with_rows(changes.state.version, changes.rows)
