"""Data sets that grow with their source: a version for each batch of new rows."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread
from sqlalchemy.exc import DBAPIError

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import (
    Conflict,
    HubError,
    Internal,
    InvalidArgument,
    NotFound,
    TimedOut,
    Unavailable,
)
from mcp_hub.adapters.sources.port import GrowingSource
from mcp_hub.services.data import store, streams_store
from mcp_hub.services.data.file_tails import GROWING_FORMATS, Tail, copy_tail
from mcp_hub.services.data.options import (
    SourceQuery,
    StreamOptions,
    format_of_file,
    parse_options,
)
from mcp_hub.services.data.sources import Bounds, Place, Sources, opened, origin, port_query
from mcp_hub.services.data.staging import temporary_folder
from mcp_hub.services.data.store import NewDataset
from mcp_hub.services.data.streams_store import NewStream, Stream
from mcp_hub.services.data.views import DatasetView, DataWarning
from mcp_hub.services.roots import Roots

if TYPE_CHECKING:
    from mcp_hub.services.data.analysis import Inspected

logger = logging.getLogger(__name__)

Inspect = Callable[[Path, str, Mapping[str, Any] | None], Awaitable["Inspected"]]

_AT_ONCE = 4
_LOOK_S = 5.0
_LEAST_S = 0.2
_CLAIM_S = 60.0
"""After so long another process looks, too: the slower one of the two has no effect."""
_AGAIN_S = 30.0
_PASSING = (Unavailable, TimedOut, Conflict)


class Growing:
    """Begins, advances and stops data sets that grow.

    A version holds all rows so far: those of the version before, and the batch behind them. It
    comes into being in one transaction with the place in the source that it reaches, which must
    still be where the batch began: whoever is killed, and however many processes look at once, a
    row of the source is in it once.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        bus: Bus,
        sources: Sources,
        roots: Roots,
        bounds: Bounds,
        inspect: Inspect,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._bus = bus
        self._sources = sources
        self._roots = roots
        self._bounds = bounds
        self._inspect = inspect

    async def begin(
        self,
        name: str,
        source: str,
        *,
        format: str | None = None,
        options: Mapping[str, Any] | None = None,
        query: SourceQuery | None = None,
        stream: StreamOptions | None = None,
    ) -> DatasetView:
        """The first version of a data set that grows from now on, or the newest of one that grew
        before with the same source: that goes on from where it was stopped.

        Raises:
            Conflict: there is a data set of that name which does not grow so.
            HubError: as `DataService.register`; also where there is no row yet.
        """
        store.check_name(name)
        if format is not None:
            parse_options(format, options)
        asked = stream or StreamOptions()
        new = NewStream(
            name=name,
            source=source.strip(),
            query=query.model_dump(exclude_none=True) if query else None,
            format=format,
            options=dict(options or {}),
            **asked.model_dump(),
        )
        existing = await self._database.write(lambda c: streams_store.resume(c, new))
        if existing is not None:
            return await self._newest(existing)
        async with temporary_folder() as folder:
            batch = folder / "batch"
            read = await self._read_batch(new, None, batch)
            if read is None:
                raise InvalidArgument(
                    f"{source} has no rows yet.",
                    "Begin when it has its first: they make version 1.",
                )
            cursor, lineage = read
            dataset, warnings = await self._stored(name, batch, lineage)
        view = await self._database.write(lambda c: streams_store.begin(c, new, dataset, cursor))
        await self._bus.publish(f"datasets://{name}")
        await self._bus.publish("resources/list_changed")
        return view.model_copy(update={"warnings": list(map(str, warnings))})

    async def stop(self, name: str) -> DatasetView:
        """Have a data set grow no more; its versions stay. Raises NotFound."""
        return await self._newest(
            await self._database.write(lambda c: streams_store.stop(c, name.strip()))
        )

    async def run(self) -> None:
        """Advance what is due, until cancelled. Any number of processes may do so."""
        while True:
            wait_s: float | None = None
            try:
                claim = partial(streams_store.claim_due, limit=_AT_ONCE, claim_s=_CLAIM_S)
                wait_s = await self._database.read(streams_store.next_due_s)
                if wait_s == 0:
                    async with anyio.create_task_group() as tasks:
                        for stream in await self._database.write(claim):
                            tasks.start_soon(self._step, stream)
            except (Unavailable, DBAPIError) as error:
                # No answer, or a schema that was taken back under a running process.
                logger.debug("No data set can grow: %s", error)
            await anyio.sleep(
                min(max(wait_s if wait_s is not None else _LOOK_S, _LEAST_S), _LOOK_S)
            )

    async def advance(self, name: str) -> DatasetView | None:
        """Look for new rows of a data set now; its next version, or None where there are none.

        Raises:
            NotFound: it does not grow.
            HubError: the source cannot be read, or what it gives cannot be added.
        """
        return await self._advance(await self._database.read(lambda c: streams_store.find(c, name)))

    async def _step(self, stream: Stream) -> None:
        try:
            try:
                await self._advance(stream)
            except HubError as error:
                await self._note(stream, error)
            except Exception as error:  # what one stream does wrong must not stop the others
                logger.exception("%s cannot grow", stream.name)
                await self._note(stream, Internal(f"{type(error).__name__}: {error}"))
        except (Unavailable, DBAPIError) as error:
            logger.warning("How %s grows cannot be recorded: %s", stream.name, error)

    async def _note(self, stream: Stream, error: HubError) -> None:
        failed = not isinstance(error, _PASSING)
        logger.warning("%s %s: %s", stream.name, "grows no more" if failed else "waits", error)
        due_s = max(stream.interval_s, _AGAIN_S)
        await self._database.write(
            lambda c: streams_store.note(c, stream, due_s, error, failed=failed)
        )

    async def _advance(self, stream: Stream) -> DatasetView | None:
        async with temporary_folder() as folder:
            batch, table, whole = (folder / name for name in ("batch", "table", "whole"))
            read = await self._read_batch(stream, stream.cursor, batch)
            if read is None:
                await self._database.write(
                    lambda c: streams_store.note(c, stream, stream.interval_s, None, failed=False)
                )
                return None
            cursor, lineage = read
            reference = f"{stream.name}:{stream.version}"
            former = await self._database.read(lambda c: store.find(c, reference))
            await self._blobs.fetch(former.view.sha256, table)
            await to_thread.run_sync(_append, table, batch, whole, self._bounds.max_rows)
            dataset, _ = await self._stored(stream.name, whole, lineage)
            added = dataset.rows - former.view.rows
        due_s = 0 if added >= stream.batch_rows else stream.interval_s
        made = await self._database.write(
            lambda c: streams_store.advance(c, stream, dataset, cursor, due_s)
        )
        if made is None:
            return None
        view, gone = made
        await self._bus.publish(f"datasets://{stream.name}")
        for sha256 in gone:
            await self._blobs.delete(sha256)
        return view

    async def _stored(
        self, name: str, file: Path, lineage: str
    ) -> tuple[NewDataset, list[DataWarning]]:
        size = await to_thread.run_sync(lambda: file.stat().st_size)
        if size > self._bounds.max_bytes:
            raise InvalidArgument(
                f"It would have {size} bytes; at most {self._bounds.max_bytes} are allowed.",
                "Stop it and begin another with a later part of the source, or raise data.max_mb.",
            )
        found = await self._inspect(file, "parquet", None)
        blob = await self._blobs.put_file(file)
        new = NewDataset(
            name, blob.sha256, blob.size, "parquet", {}, lineage, found.rows, found.columns
        )
        return new, found.warnings

    async def _read_batch(
        self, asked: NewStream | Stream, cursor: str | None, path: Path
    ) -> tuple[str, str] | None:
        """Write the rows behind `cursor` to `path`; the place behind them, and what they are of."""
        query = SourceQuery.model_validate(asked.query) if asked.query else None
        place = await self._sources.find(asked.source, query, self._roots)
        if place is None:
            if query is not None:
                raise InvalidArgument("query is for a SQLite file, or a source: NAME:ITEM.")
            return await to_thread.run_sync(self._read_file, asked, cursor, path)
        limit = asked.batch_rows
        behind = await self._read_source(place, query or SourceQuery(), cursor, limit, path)
        return (behind, f"{origin(place, query)} up to {behind}") if behind else None

    async def _read_source(
        self, place: Place, query: SourceQuery, cursor: str | None, limit: int, path: Path
    ) -> str | None:
        if query.limit is not None:
            raise InvalidArgument(
                "query.limit is not for a data set that grows.", "Say stream.batch_rows."
            )
        async with opened(place.open) as source:
            if not isinstance(source, GrowingSource):
                raise InvalidArgument(
                    f"{place.shown} cannot grow: it holds objects, which are replaced.",
                    "A table, a SELECT, a collection, a stream and a file of lines can.",
                )
            table = await to_thread.run_sync(_begin_table, path, self._bounds)
            wanted = port_query(query, limit=limit)
            async with aclosing(source.rows_after(place.item, wanted, cursor)) as batches:
                behind = None
                async for batch in batches:
                    await to_thread.run_sync(table.add, batch.rows)
                    behind = batch.cursor
        if behind is not None:
            await to_thread.run_sync(table.save, path)
        return behind

    def _read_file(
        self, asked: NewStream | Stream, cursor: str | None, path: Path
    ) -> tuple[str, str] | None:
        try:
            with self._roots.open(asked.source) as (file, content):
                format = asked.format or format_of_file(file.name)
                if format not in GROWING_FORMATS:
                    raise InvalidArgument(
                        f"A file of {format} cannot grow.",
                        f"Write one of {', '.join(GROWING_FORMATS)}, a line for each new row.",
                    )
                options = parse_options(format, asked.options)
                tail = Tail.parse(cursor) if cursor else None
                copy = path.with_suffix(".copy")
                behind = copy_tail(content, tail, options, asked.batch_rows, copy)
        except NotFound as error:
            raise self._sources.explained(asked.source, error) from error
        if behind is None:
            return None
        _to_parquet(copy, format, asked.options, path)
        return str(behind), f"{file} up to byte {behind.offset}"

    async def _newest(self, stream: Stream) -> DatasetView:
        reference = f"{stream.name}:{stream.version}"
        found = await self._database.read(lambda c: store.find(c, reference))
        return found.view.model_copy(update={"stream": streams_store.stream_view(stream)})


# Importing polars takes long: not at start, and never on the event loop.


def _begin_table(path: Path, bounds: Bounds) -> Any:
    from mcp_hub.services.data.tabulating import Table

    folder = path.with_suffix(".parts")
    folder.mkdir()
    return Table(folder, bounds.max_bytes, bounds.max_rows)


def _append(table: Path, batch: Path, whole: Path, max_rows: int) -> None:
    from mcp_hub.services.data.appending import append_rows

    append_rows(table, batch, whole, max_rows)


def _to_parquet(file: Path, format: str, options: Mapping[str, Any], path: Path) -> None:
    from mcp_hub.services.data.reading import read_frame

    read_frame(file, format, options).write_parquet(path)
