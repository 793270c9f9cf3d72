"""The named sources: servers that a caller may read data sets from, without knowing where they are.

Only whoever runs the hub names them and gives their URLs; a caller says `NAME:ITEM`.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import CancelScope, to_thread

from mcp_hub.adapters.errors import Denied, NotFound, names_hint
from mcp_hub.adapters.sources.port import DataSource, Query
from mcp_hub.services.data.options import SourceQuery

if TYPE_CHECKING:
    from mcp_hub.services.data.tabulating import Table

OpenSource = Callable[[], DataSource]
"""Opens a source; raises HubError where it is switched off or its URL is wrong."""

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]+):(?!//|\\)(.+)", re.DOTALL)
_REMOTE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://", re.I)


class Sources:
    """Opens sources by name. Nothing stays open between calls."""

    def __init__(self, openers: Mapping[str, OpenSource]) -> None:
        self._openers = dict(openers)

    @property
    def names(self) -> list[str]:
        return sorted(self._openers)

    def find(self, source: str) -> tuple[str, str] | None:
        """The name and the item, where `source` is `NAME:ITEM` of a source that there is.

        Raises:
            Denied: it is the URL of a server.
        """
        if _REMOTE.match(source.strip()):
            raise Denied(
                "A server cannot be read by its URL.",
                "Name one that the hub's configuration has in [data.sources], as NAME:ITEM. "
                f"{self._hint('')}",
            )
        found = _NAMED.fullmatch(source.strip())
        return (found[1], found[2]) if found and found[1] in self._openers else None

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
        self, name: str, item: str, query: SourceQuery | None, path: Path, max_bytes: int
    ) -> str:
        """Write what `query` asks of an item to `path`, as Parquet; where it came from.

        Raises:
            InvalidArgument, NotFound, Unavailable: as `DataSource.rows` says.
            LimitExceeded: there is more than `max_bytes`, or than the hub takes.
            Denied: the source is switched off.
        """
        wanted = query or SourceQuery()
        folder = path.with_suffix(".parts")

        def begin() -> "Table":
            # Importing polars takes long: not at start, and never on the event loop.
            from mcp_hub.services.data.tabulating import Table

            folder.mkdir()
            return Table(folder, max_bytes)

        table = await to_thread.run_sync(begin)
        asked = Query(filter=wanted.filter, fields=wanted.fields, limit=wanted.limit)
        async with self._open(name) as source, aclosing(source.rows(item, asked)) as batches:
            async for rows in batches:
                await to_thread.run_sync(table.add, rows)
        await to_thread.run_sync(table.save, path)
        said = wanted.model_dump(exclude_none=True)
        return f"{name}:{item}" + (f" {json.dumps(said, ensure_ascii=False)}" if said else "")

    async def check(self, name: str) -> str:
        """What a source is, and how many items it has. Raises Denied, InvalidArgument and
        Unavailable."""
        async with self._open(name) as source:
            return f"{await source.check()}, {len(await source.items())} items"

    @asynccontextmanager
    async def _open(self, name: str) -> AsyncIterator[DataSource]:
        source = self._openers[name]()
        try:
            yield source
        finally:
            with CancelScope(shield=True):
                await source.close()

    def _hint(self, name: str) -> str:
        return names_hint(name, self._openers, "sources")
