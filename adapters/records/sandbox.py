"""The sandbox port: one SELECT of a stranger's over the views, which can do no harm."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, TimedOut, names_hint
from mcp_hub.adapters.records.views import COLUMN_NAMES, VIEW_NAMES

MAX_SQL = 10_000

_UNKNOWN_COLUMN = re.compile(r'no such column: (\S+)|column "?([^" ]+)"? does not exist')
_UNKNOWN_FUNCTION = re.compile(r"no such function: (\S+)")
_UNKNOWN_TABLE = re.compile(r'no such table: (\S+)|relation "([^"]+)" does not exist')


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a SELECT may give, and for how long it may look."""

    rows: int
    characters: int
    cell: int
    """Characters of one text that are given."""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows of JSON scalars. `ended` says what ended them early: rows or characters."""

    columns: list[str]
    rows: list[list[Any]]
    ended: str | None = None
    cut: bool = False
    """Whether a text was longer than is given."""


class Sandbox(Protocol):
    """Runs one SELECT over the documented views, and nothing else, within limits."""

    async def select(self, sql: str, limits: Limits) -> Selected:
        """The rows that `sql` gives.

        Raises:
            InvalidArgument: it is wrong; names the nearest view or column.
            Denied: it is no SELECT, or uses what it may not.
            TimedOut: it took longer than it may.
            Unavailable: the database does not answer.
        """
        ...


class Gathering:
    """Rows as they come, up to the limits."""

    def __init__(self, columns: list[str], limits: Limits) -> None:
        self._columns = columns
        self._limits = limits
        self._characters = 0
        self._rows: list[list[Any]] = []
        self._ended: str | None = None
        self._cut = False

    def add(self, row: Any) -> bool:
        """Take a row; whether there is room for more."""
        if len(self._rows) >= self._limits.rows:
            self._ended = "rows"
            return False
        values = [self._value(value) for value in row]
        size = sum(len(value) if isinstance(value, str) else 8 for value in values)
        if self._rows and self._characters + size > self._limits.characters:
            self._ended = "characters"
            return False
        self._characters += size
        self._rows.append(values)
        return True

    def done(self) -> Selected:
        return Selected(self._columns, self._rows, self._ended, self._cut)

    def _value(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Decimal):
            whole = value.is_finite() and value == value.to_integral_value()
            return int(value) if whole else float(value)
        text = _text_of(value)
        if len(text) <= self._limits.cell:
            return text
        self._cut = True
        return f"{text[: self._limits.cell]}…"


def _text_of(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def check_text(sql: str) -> None:
    """See that `sql` is a text that a database takes."""
    if not sql.strip():
        raise InvalidArgument("sql is empty.", "Write one SELECT: see hub://schema/telemetry.")
    if len(sql) > MAX_SQL:
        raise InvalidArgument(f"sql has {len(sql):,} characters; it has at most {MAX_SQL:,}.")
    if "\0" in sql or (not sql.isascii() and any("\ud800" <= one <= "\udfff" for one in sql)):
        raise InvalidArgument("sql has a NUL or an invalid Unicode character.")


def only_select(what: str) -> Denied:
    return Denied(
        f"{what} is not permitted here.",
        f"Write one SELECT over the views {', '.join(VIEW_NAMES)}: see hub://schema/telemetry.",
    )


def unknown_view(name: str) -> InvalidArgument:
    return InvalidArgument(
        f"There is no view {name!r}.", names_hint(name.rpartition(".")[2], VIEW_NAMES, "views")
    )


def too_slow(timeout_s: float) -> TimedOut:
    return TimedOut(
        f"The SELECT took longer than {timeout_s:g} s.",
        "Narrow it by time_ns, read rollups instead of records, or ask telemetry_aggregate.",
    )


def wrong(said: str) -> HubError:
    """What the database's complaint about a statement means for its writer."""
    if found := _UNKNOWN_TABLE.search(said):
        return unknown_view(found[1] or found[2])
    if found := _UNKNOWN_COLUMN.search(said):
        name = (found[1] or found[2]).rpartition(".")[2]
        return InvalidArgument(
            f"There is no column {name!r}.",
            names_hint(name, COLUMN_NAMES, "columns")
            + " Attributes: attributes->>'key'. See hub://schema/telemetry.",
        )
    if found := _UNKNOWN_FUNCTION.search(said):
        return only_select(f"The function {found[1]}")
    return InvalidArgument(f"The SQL is wrong: {said}.", "See hub://schema/telemetry.")
