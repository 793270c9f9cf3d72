"""What was read, as long as nothing is committed to the database that it was read from."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from sqlalchemy import Connection

from mcp_hub.adapters.database.port import Database, Versioned

T = TypeVar("T")


class Remembered(Generic[T]):
    """The results of reads by their keys: the same objects again, which nobody may change.

    Of a database that does not tell whether anything was committed, each read is made.
    """

    def __init__(self, database: Database, most: int = 32) -> None:
        """At most `most` results are kept, those that were read last."""
        self._database = database
        self._versioned = database if isinstance(database, Versioned) else None
        self._most = most
        self._kept: dict[Hashable, tuple[int, T]] = {}

    async def read(self, key: Hashable, work: Callable[[Connection], T]) -> T:
        """As `Database.read`; what `work` finds depends on the rows and on `key` alone."""
        version = await self._versioned.version() if self._versioned is not None else None
        if version is None:
            return await self._database.read(work)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]
        found = await self._database.read(work)
        self._kept.pop(key, None)
        self._kept[key] = (version, found)
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return found
