"""The sources port: tables that lie on other people's servers, read row by row."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

Cell = None | bool | int | float | str | bytes | datetime
"""A value of a table. None is missing; integers have 64 bits; datetimes are naive, in UTC."""

Row = dict[str, Cell]
"""The cells by their columns' names; a column that a row lacks is missing there."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows and columns to read: all of them where nothing is said."""

    filter: Mapping[str, Any] | None = None
    """What the rows must meet, in the source's own language, as JSON."""
    fields: Sequence[str] | None = None
    limit: int | None = None


class DataSource(Protocol):
    """A server that holds tables under names. Nothing on it is ever written."""

    def rows(self, item: str, query: Query) -> AsyncGenerator[list[Row], None]:
        """The rows of `item` in batches of bounded size, in an order that is always the same.

        Raises:
            InvalidArgument: the name, the filter or a field is none that the source takes.
            NotFound: there is no such item; the hint names those that exist.
            Unavailable: the server does not answer, or refuses the user.
        """
        ...

    async def items(self) -> list[str]:
        """The names of what can be read, in order. Raises Unavailable."""
        ...

    async def check(self) -> str:
        """Make one round trip; what the source is. Raises Unavailable."""
        ...

    async def close(self) -> None: ...
