"""What the sources of SQL share: their statements, and what a cursor's value is as text."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar

from mcp_hub.adapters.errors import Denied, InvalidArgument, NotFound, names_hint
from mcp_hub.adapters.sources.port import Batch, Query, Row
from mcp_hub.adapters.sources.querying import check_parts

_TAKEN = ("sql", "parameters", "fields", "limit")
_GROWING = (*_TAKEN, "cursor")
_KINDS: Mapping[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat, "date": date.fromisoformat, "decimal": Decimal,
}  # fmt: skip


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def check_item(item: str, query: Query) -> None:
    """Raise InvalidArgument unless exactly one of a table and a SELECT is named, and rightly."""
    if bool(item) == (query.sql is not None):
        raise InvalidArgument(
            "Name either a table or a SELECT.",
            'Pass source="NAME:TABLE", or source="NAME" with query={"sql": "SELECT …"}.',
        )
    if query.sql is None and query.parameters is not None:
        raise InvalidArgument("query.parameters are for query.sql.", "Leave them out.")
    if query.sql is not None and query.fields is not None:
        raise InvalidArgument(
            "query.fields are for a table.", "Name the columns in query.sql itself."
        )


def check_fields(fields: Sequence[str] | None, columns: Sequence[str], item: str) -> None:
    """Raise NotFound where `fields` names what is no column of the table `item`."""
    for name in fields or ():
        if name not in columns:
            raise NotFound(f"{item} has no column {name!r}.", names_hint(name, columns, "columns"))


def columns_of(fields: Sequence[str] | None) -> str:
    """The columns of a SELECT."""
    return ", ".join(map(quoted, fields)) if fields else "*"


def grown(select: str, column: str, after: str | None) -> str:
    """A SELECT of what `select` gives beyond the placeholder `after`, in the column's order."""
    name = quoted(column)
    beyond = f"{name} > {after}" if after else f"{name} IS NOT NULL"
    # A comment at the end of the SELECT must not take the bracket with it.
    inner = select.strip().rstrip(";")
    return f"SELECT * FROM ({inner}\n) AS grown WHERE {beyond} ORDER BY {name}"


def check_columns(names: Sequence[str]) -> None:
    """Raise InvalidArgument where two columns of a result have the same name."""
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise InvalidArgument(
            f"Two columns of the result are named {doubled[0]!r}.",
            "Give each a name of its own: SELECT a.id AS a_id, b.id AS b_id …",
        )


def no_rows() -> Denied:
    """The error of a statement that is no SELECT."""
    return Denied("The statement gives no rows: a source is only ever read.", "Write a SELECT.")


def writes(reason: str) -> Denied:
    """The error of a statement that the database refuses because it would write."""
    return Denied(f"A source is only ever read: {reason}.", "Write a SELECT that changes nothing.")


@dataclass(slots=True)
class CursorColumn:
    """The column by which rows grow, while they are read."""

    name: str
    last: Any = None

    def check_named(self, columns: Sequence[str]) -> None:
        """Raise InvalidArgument where the result has no such column."""
        if self.name not in columns:
            hint = names_hint(self.name, columns, "columns")
            raise InvalidArgument(f"query.cursor: there is no column {self.name!r}.", hint)

    def take(self, value: Any) -> None:
        """Go on to the next row's value.

        Raises:
            InvalidArgument: it is the row's before: what follows it could not be told.
        """
        if value == self.last:
            raise InvalidArgument(
                f"query.cursor: two rows have the same {self.name}, {str(value)[:80]}.",
                "Name a column whose values differ and grow with each row, such as a serial id.",
            )
        self.last = value

    def text(self) -> str:
        """The last value, as text that `cursor_value` reads."""
        value = self.last
        if isinstance(value, datetime):
            return json.dumps({"datetime": value.isoformat()})
        if isinstance(value, date):
            return json.dumps({"date": value.isoformat()})
        if isinstance(value, Decimal):
            return json.dumps({"decimal": str(value)})
        return json.dumps(value if isinstance(value, int | float) else str(value))


class SqlSource(ABC):
    """A source of SQL: whether its rows grow or not, they come from `_batches`."""

    kind: ClassVar[str]
    """What the source is, as its errors call it."""

    async def rows(self, item: str, query: Query) -> AsyncGenerator[list[Row], None]:
        check_parts(query, _TAKEN, self.kind)
        check_item(item, query)
        async with aclosing(self._batches(item, query, None, None)) as batches:
            async for batch in batches:
                yield batch.rows

    async def rows_after(
        self, item: str, query: Query, cursor: str | None
    ) -> AsyncGenerator[Batch, None]:
        check_parts(query, _GROWING, f"{self.kind} that grows")
        check_item(item, query)
        async with aclosing(self._batches(item, query, _cursor_column(query), cursor)) as batches:
            async for batch in batches:
                yield batch

    @abstractmethod
    def _batches(
        self, item: str, query: Query, column: CursorColumn | None, after: str | None
    ) -> AsyncGenerator[Batch, None]:
        """The rows of an item or a SELECT in batches; where they grow by `column`, in its order
        and only those behind `after`."""


def _cursor_column(query: Query) -> CursorColumn:
    """The column by which the rows of `query` grow. Raises InvalidArgument where none is named."""
    if query.cursor is None:
        raise InvalidArgument(
            "query.cursor is missing: the column by which the rows grow.",
            'Such as query={"cursor": "id"}.',
        )
    return CursorColumn(query.cursor)


def cursor_value(text: str) -> Any:
    """What `CursorColumn.text` wrote down."""
    value = json.loads(text)
    if not isinstance(value, dict):
        return value
    ((kind, written),) = value.items()
    return _KINDS[kind](written)


def in_utc(value: datetime) -> datetime:
    """A time as a cell: naive, in UTC."""
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
