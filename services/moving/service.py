"""Moving a whole hub: every row and blob, from one set of adapters into another."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from anyio import to_thread
from sqlalchemy import Connection, Table, select

from mcp_hub import migrations
from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.migrating import revision
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import jobs
from mcp_hub.adapters.errors import Conflict, NotFound
from mcp_hub.services.moving import progress, tables
from mcp_hub.services.moving.blobs import Copied, copy_blobs, referenced, verify_blobs
from mcp_hub.services.moving.progress import Mark
from mcp_hub.services.moving.views import BlobComparison, Moved, TableComparison

_BATCH = 2000
_SHOWN = 5

OnStep = Callable[[str, int, int], Awaitable[None]]
"""Told how far each step is: its name, what is done of it, and of how much."""


class End(NamedTuple):
    """A hub that is copied from or into; `name` says to people which, and holds no secret."""

    name: str
    database: Database
    blobs: BlobStore


class MovingService:
    """Copies one hub into an empty one, or goes on where an earlier run was cut off.

    Blobs come first, so that no row ever names one that is not there. Rows are written in
    batches, and in the same transaction the target notes how far they are. The source is only
    read. Nothing may write to either meanwhile; what does shows in the comparison at the end.
    """

    def __init__(self, source: End, target: End, told: OnStep) -> None:
        self._source = source
        self._target = target
        self._told = told

    async def copy(self) -> Moved:
        """Copy what the target lacks, then compare both ends.

        Raises:
            Conflict: the schemas differ, a job runs at the source, or the target holds other data.
            NotFound: the source lacks a blob that a row of it names.
            Unavailable: an adapter does not answer, or a blob of the source is damaged.
        """
        await self._check_source()
        if await self._begin():
            return await self._compare(Copied(), 0, 0.0, 0.0)
        began = time.monotonic()
        copied = await self._copy_blobs()
        blobs_s = time.monotonic() - began
        began = time.monotonic()
        rows = 0
        for table in tables.moved_tables():
            rows += await self._copy_table(table)
        rows_s = time.monotonic() - began
        moved = await self._compare(copied, rows, blobs_s, rows_s)
        if moved.equal:
            await self._target.database.write(progress.end)
        else:
            # Another run goes over everything again.
            name = self._source.name
            await self._target.database.write(lambda c: progress.begin(c, name))
        return moved

    async def _check_source(self) -> None:
        name, database, _ = self._source
        at = await database.read(revision)
        if at != migrations.HEAD:
            raise Conflict(
                f"The schema of {name} is at revision {at or 'none'}; this mcp-hub copies "
                f"{migrations.HEAD}.",
                "Run `mcp-hub migrate` on it, with the newest mcp-hub, and copy then.",
            )
        running = await database.read(_running)
        if running:
            more = f" and {len(running) - _SHOWN} more" if len(running) > _SHOWN else ""
            raise Conflict(
                f"Jobs are running at {name}: {', '.join(running[:_SHOWN])}{more}.",
                "Wait until they end, or stop the workers: they give their jobs back to the queue.",
            )

    async def _begin(self) -> bool:
        """Note the copy in the target; True if there is nothing to do, for the ends are equal."""
        source, target = self._source, self._target
        earlier = await target.database.read(progress.source_of)
        if earlier == source.name:
            return False
        if earlier is not None:
            raise Conflict(
                f"{target.name} holds the unfinished copy of another hub, {earlier}.",
                "Finish that first, or copy into an empty database.",
            )
        held = await target.database.read(_counts)
        if any(held.values()):
            if held == await source.database.read(_counts) and await self._tables_equal():
                return True
            shown = ", ".join(f"{rows} {name}" for name, rows in held.items() if rows)
            raise Conflict(
                f"{target.name} already holds other data: {shown}.",
                "Copy into an empty database; a hub is never merged into another.",
            )
        await target.database.write(lambda c: progress.begin(c, source.name))
        return False

    async def _copy_blobs(self) -> Copied:
        addresses = await referenced(self._source.database)

        async def told(done: int, _bytes: int) -> None:
            await self._told("blobs", done, len(addresses))

        copied = await copy_blobs(self._source.blobs, self._target.blobs, addresses, told)
        if copied.absent:
            shown = ", ".join(sorted(copied.absent)[:_SHOWN])
            raise NotFound(
                f"{self._source.name} lacks {len(copied.absent)} of the blobs that its rows name: "
                f"{shown}.",
                "Check that --from-blobs names this hub's blobs, or restore them from a backup.",
            )
        return copied

    async def _copy_table(self, table: Table) -> int:
        """Copy the rows after the target's mark; how many that were."""
        source, target = self._source, self._target
        total = await source.database.read(lambda c: tables.count(c, table))
        marks = await target.database.read(progress.marks)
        at = marks.get(table.name, Mark(None, 0))
        before = at.rows
        while True:
            rows = await source.database.read(
                lambda c, key=at.key: tables.page_after(c, table, key, _BATCH)  # type: ignore[misc]
            )
            if not rows:
                break
            at = Mark(tables.key_in(table, rows[-1]), at.rows + len(rows))

            def write(connection: Connection, rows=rows, at=at) -> None:  # type: ignore[no-untyped-def]
                tables.write_rows(connection, table, rows)
                progress.mark(connection, table.name, source.name, at)

            await target.database.write(write)
            await self._told(table.name, at.rows, max(total, at.rows))
        await target.database.write(lambda c: tables.set_serial(c, table))
        return at.rows - before

    async def _compare(self, copied: Copied, rows: int, blobs_s: float, rows_s: float) -> Moved:
        compared = [await self._compare_table(table) for table in tables.moved_tables()]
        blobs = await self._compare_blobs()
        return Moved(
            rows=rows,
            rows_s=rows_s,
            blobs=copied.blobs,
            blob_bytes=copied.bytes,
            blobs_s=blobs_s,
            tables=compared,
            blob_comparison=blobs,
            left_out=dict(tables.LEFT_OUT),
            equal=all(table.equal for table in compared) and not blobs.missing,
        )

    async def _tables_equal(self) -> bool:
        for table in tables.moved_tables():
            if not (await self._compare_table(table)).equal:
                return False
        return True

    async def _compare_table(self, table: Table) -> TableComparison:
        source_rows, source_hash = await self._digest(self._source.database, table)
        target_rows, target_hash = await self._digest(self._target.database, table)
        await self._told(f"compare {table.name}", target_rows, source_rows)
        return TableComparison(
            table=table.name,
            source_rows=source_rows,
            target_rows=target_rows,
            source_hash=tables.shown(source_hash),
            target_hash=tables.shown(target_hash),
        )

    async def _compare_blobs(self) -> BlobComparison:
        addresses = await referenced(self._source.database)

        async def told(done: int, _bytes: int) -> None:
            await self._told("compare blobs", done, len(addresses))

        return await verify_blobs(self._target.blobs, addresses, told)

    async def _digest(self, database: Database, table: Table) -> tuple[int, int]:
        """The number of rows and the digest of all of them."""
        count, digest = 0, 0
        key: list[Any] | None = None
        while rows := await database.read(
            lambda c, key=key: tables.page_after(c, table, key, _BATCH)  # type: ignore[misc]
        ):
            count += len(rows)
            digest = tables.add(digest, await to_thread.run_sync(tables.digest_of, table, rows))
            key = tables.key_in(table, rows[-1])
        return count, digest


def _running(connection: Connection) -> list[str]:
    """The jobs that a worker holds. One that was lost moves as it is: the target's take over."""
    return list(
        connection.execute(
            select(jobs.c.id)
            .where(jobs.c.status == "running", jobs.c.lease_expires_at >= now_ms())
            .order_by(jobs.c.id)
        ).scalars()
    )


def _counts(connection: Connection) -> dict[str, int]:
    return {table.name: tables.count(connection, table) for table in tables.moved_tables()}
