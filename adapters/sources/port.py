"""The sources port: tables and files that lie on other people's servers, only ever read."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

Cell = None | bool | int | float | str | bytes | datetime
"""A value of a table. None is missing; integers have 64 bits; datetimes are naive, in UTC."""

Row = dict[str, Cell]
"""The cells by their columns' names; a column that a row lacks is missing there."""


class Untyped(str):
    """A text of a source that knows no types: `12`, `0.5` and `true` may mean what they say."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows and columns to read: all of them where nothing is said."""

    filter: Mapping[str, Any] | None = None
    """What the rows must meet, in the source's own language, as JSON."""
    fields: Sequence[str] | None = None
    limit: int | None = None
    sql: str | None = None
    """A SELECT in the source's own SQL, in place of an item, which is empty then."""
    parameters: Sequence[Any] | None = None
    """Values for the placeholders of `sql`, as JSON has them."""
    since: str | None = None
    until: str | None = None
    """The first and the last entry: an ISO 8601 time, or an id of the source's own."""
    cursor: str | None = None
    """The column of SQL that grows from row to row, for `GrowingSource`."""


class Source(Protocol):
    """A server that holds what becomes data sets, under names. Nothing on it is ever written."""

    async def items(self) -> list[str]:
        """The names of what can be read, in order, at most 1,000. Raises Unavailable."""
        ...

    async def check(self) -> str:
        """Make one round trip; what the source is. Raises Unavailable."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class DataSource(Source, Protocol):
    """A source of tables, read row by row."""

    def rows(self, item: str, query: Query) -> AsyncGenerator[list[Row], None]:
        """The rows of `item` in batches of bounded size, in an order that is always the same:
        of what is computed, such as a view or a SELECT, in the order that it gives.

        Raises:
            InvalidArgument: the name, the query or a field is none that the source takes.
            NotFound: there is no such item; the hint names those that exist.
            Denied: the query would write.
            TimedOut: a piece of it took longer than the source may take.
            Unavailable: the server does not answer, breaks off, or refuses the user.
        """
        ...


class Batch(NamedTuple):
    """Rows of an item that grows, and where to go on after them."""

    rows: list[Row]
    cursor: str


@runtime_checkable
class GrowingSource(DataSource, Protocol):
    """A source of tables to which rows are only ever added, each behind the ones before."""

    def rows_after(
        self, item: str, query: Query, cursor: str | None
    ) -> AsyncGenerator[Batch, None]:
        """As `rows`, but only those behind `cursor`, which an earlier batch gave; None for all.

        Raises:
            InvalidArgument: also where the rows do not grow by what `query.cursor` names.
        """
        ...


@runtime_checkable
class FileSource(Source, Protocol):
    """A source of files."""

    async def fetch(self, item: str, path: Path, max_bytes: int) -> str:
        """Write the file `item` to `path`, whole and as it was at one time; where it came from.

        Raises:
            NotFound: there is no such item; the hint names those that exist.
            LimitExceeded: it has more than `max_bytes`; of such a file nothing is read.
            Conflict: it changed while it was read.
            Unavailable: the server does not answer, breaks off, or refuses the user.
        """
        ...
