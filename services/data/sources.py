"""What data sets are read from that is no plain file: named sources, and SQLite files.

Only whoever runs the hub names sources and gives their URLs; a caller says `NAME:ITEM`.
"""

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import CancelScope, to_thread

from mcp_hub.adapters.errors import Conflict, Denied, InvalidArgument, NotFound, names_hint
from mcp_hub.adapters.sources.port import DataSource, FileSource, Query, Source
from mcp_hub.services.data.options import SourceQuery, format_of_file
from mcp_hub.services.roots import Roots

if TYPE_CHECKING:
    from mcp_hub.services.data.tabulating import Table

OpenSource = Callable[[], Source]
"""Opens a source; raises HubError where it is switched off or its URL is wrong."""

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]+):(?!//|\\)(.+)", re.DOTALL)
_REMOTE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://", re.I)
_SQLITE = re.compile(r"(.+\.(?:db|db3|sqlite|sqlite3))(?::([^/\\]+))?", re.I | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one data set may be."""

    max_bytes: int
    max_rows: int


@dataclass(frozen=True, slots=True)
class Place:
    """An item of a source, to be read."""

    shown: str
    """What names the source in a data set's lineage."""
    item: str
    """Empty where a SELECT says it."""
    open: OpenSource
    file: tuple[int, int] | None = None
    """Of a SQLite file: its device and inode when it was found inside the roots."""


class Sources:
    """Opens sources. Nothing stays open between calls."""

    def __init__(
        self,
        openers: Mapping[str, OpenSource] | None = None,
        *,
        urls: Mapping[str, str] | None = None,
        open_sqlite: Callable[[Path], DataSource] | None = None,
    ) -> None:
        """`urls` holds what a URL of an item begins with, and the name of the source that it is
        of: `s3://bucket/`. `open_sqlite` opens a file of SQLite's."""
        self._openers = dict(openers or {})
        self._urls = dict(urls or {})
        self._open_sqlite = open_sqlite

    @property
    def names(self) -> list[str]:
        return sorted(self._openers)

    async def find(self, source: str, query: SourceQuery | None, roots: Roots) -> Place | None:
        """What `source` names, unless that is a plain file: `NAME:ITEM` of a source that there
        is, its `NAME` with a query, an item's URL, or `FILE` or `FILE:TABLE` of SQLite's.

        Raises:
            Denied: it is the URL of a server that no source is of.
            Denied, InvalidArgument, NotFound: as `Roots.open` says of a SQLite file.
        """
        source = source.strip()
        for begin, name in self._urls.items():
            if source.startswith(begin) and len(source) > len(begin):
                return Place(name, source.removeprefix(begin), self._openers[name])
        if _REMOTE.match(source):
            raise Denied(
                "A server cannot be read by its URL.",
                "Name one that the hub's configuration has in [data.sources], as NAME:ITEM. "
                f"{self._hint('')}",
            )
        if query is not None and source in self._openers:
            return Place(source, "", self._openers[source])
        found = _NAMED.fullmatch(source)
        if found and found[1] in self._openers:
            return Place(found[1], found[2], self._openers[found[1]])
        file = _SQLITE.fullmatch(source)
        if file is None or self._open_sqlite is None:
            return None
        return await to_thread.run_sync(self._find_file, file[1], file[2] or "", roots)

    def explained(self, source: str, error: NotFound) -> NotFound:
        """The error of a `source` that was taken for a file, where a source may be meant."""
        found = _NAMED.fullmatch(source.strip())
        if found is None:
            return error
        return NotFound(
            f"There is no source {found[1]!r}, and no file of that name: {error.message}",
            self._hint(found[1]),
        )

    async def save(
        self,
        place: Place,
        query: SourceQuery | None,
        path: Path,
        bounds: Bounds,
        format: str | None = None,
    ) -> tuple[str, str]:
        """Write what `query` asks of a place to `path`; where it came from, and its format.

        A table is written as Parquet; a file stays what it is, which is `format`, or what its
        name's extension says.

        Raises:
            InvalidArgument, NotFound, TimedOut, Unavailable: as the sources port says.
            LimitExceeded: there is more than the bounds allow.
            Denied: the source is switched off, or the query would write.
            Conflict: what is read was changed meanwhile.
        """
        async with opened(place.open) as source:
            if isinstance(source, FileSource):
                if query is not None:
                    raise InvalidArgument(
                        f"query is not for files, as {place.shown} holds.", "Leave it out."
                    )
                format = format or format_of_file(place.item)
                return await source.fetch(place.item, path, bounds.max_bytes), format
            assert isinstance(source, DataSource)
            if format is not None:
                raise InvalidArgument(
                    f"format and options are for files; {place.shown} is none.", "Leave them out."
                )
            asked = query or SourceQuery()
            if not place.item and asked.sql is None:
                place = replace(place, item=await _only_item(source, place.shown))
            await _tabulate(source, place.item, asked, path, bounds)
        await to_thread.run_sync(_check_file, place)
        return origin(place, query), "parquet"

    async def check(self, name: str) -> str:
        """What a source is, and how many items it has. Raises Denied, InvalidArgument and
        Unavailable."""
        async with opened(self._openers[name]) as source:
            return f"{await source.check()}, {len(await source.items())} items"

    def _find_file(self, file: str, table: str, roots: Roots) -> Place | None:
        with roots.open(file) as (path, opened):
            stat = os.fstat(opened.fileno())
            open_sqlite = self._open_sqlite
            assert open_sqlite is not None
            return Place(str(path), table, lambda: open_sqlite(path), (stat.st_dev, stat.st_ino))

    def _hint(self, name: str) -> str:
        return names_hint(name, self._openers, "sources")


def origin(place: Place, query: SourceQuery | None) -> str:
    """Where rows came from, as a data set's lineage says it: never a URL with a password."""
    said = query.model_dump(exclude_none=True) if query else {}
    where = f"{place.shown}:{place.item}" if place.item else place.shown
    return where + (f" {json.dumps(said, ensure_ascii=False)}" if said else "")


def port_query(query: SourceQuery, **changes: Any) -> Query:
    """A caller's query as the port takes it."""
    return Query(**query.model_dump() | changes)


@asynccontextmanager
async def opened(open: OpenSource) -> AsyncIterator[Source]:
    """A source that is closed afterwards."""
    source = open()
    try:
        yield source
    finally:
        with CancelScope(shield=True):
            await source.close()


async def _only_item(source: Source, shown: str) -> str:
    items = await source.items()
    if len(items) == 1:
        return items[0]
    hint = names_hint("", items, "tables")
    raise InvalidArgument(
        f"{shown} has {len(items)} tables.",
        f'{hint} Name one, as {shown}:TABLE, or pass query={{"sql": "SELECT …"}}.',
    )


async def _tabulate(
    source: DataSource, item: str, query: SourceQuery, path: Path, bounds: Bounds
) -> None:
    folder = path.with_suffix(".parts")

    def begin() -> "Table":
        # Importing polars takes long: not at start, and never on the event loop.
        from mcp_hub.services.data.tabulating import Table

        folder.mkdir()
        return Table(folder, bounds.max_bytes, bounds.max_rows)

    table = await to_thread.run_sync(begin)
    async with aclosing(source.rows(item, port_query(query))) as batches:
        async for rows in batches:
            await to_thread.run_sync(table.add, rows)
    await to_thread.run_sync(table.save, path)


def _check_file(place: Place) -> None:
    """Raise Conflict where a SQLite file's name meanwhile leads to another file."""
    if place.file is None:
        return
    path = Path(place.shown)
    stat = path.lstat()
    if path.resolve() != path or (stat.st_dev, stat.st_ino) != place.file:
        raise Conflict(f"{place.shown} was replaced while it was read.", "Try again.")
