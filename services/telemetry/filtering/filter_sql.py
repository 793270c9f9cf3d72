"""A filter as conditions on `telemetry_records`, true in the same cases on SQLite and PostgreSQL.

What of a condition is in another table is asked there by a subquery, so that a statement need not
join it.
"""

import json
import operator
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_attributes,
    telemetry_records,
    telemetry_resources,
    telemetry_series,
)
from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.telemetry.filtering.filters import (
    FIELDS,
    NEGATIVE,
    Condition,
    Field,
    Filter,
    Scalar,
)
from mcp_hub.services.telemetry.intake.naming import MAX_KEYS

Sql = ColumnElement[bool]

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_TIMES = ("time", "timestamp", "time_ns", "@timestamp")
_KEYS_SHOWN = 5_000


def conditions_on_records(filter: Filter, dialect: Dialect) -> list[Sql]:
    """Conditions on rows of `telemetry_records`, to be joined by AND."""
    found = [
        _whole(one, dialect) for one in filter.of("record", "attribute", "resource").conditions
    ]
    if of_series := conditions_on_series(filter, dialect):
        fitting = select(telemetry_series.c.series).where(*of_series)
        found.append(telemetry_records.c.series.in_(fitting))
    return found


def conditions_on_series(filter: Filter, dialect: Dialect) -> list[Sql]:
    """The filter's conditions on kind, name and service, on rows of `telemetry_series`."""
    return [_whole(one, dialect) for one in filter.of("series").conditions]


def text_at(field: Field, dialect: Dialect) -> ColumnElement[Any]:
    """A field's value in each row of `telemetry_records`; an attribute's as text (SQLite: as the
    JSON value it is), NULL where there is none."""
    if field.source == "attribute":
        return _Json(telemetry_records.c.attributes, field.key, dialect).text
    if field.source == "record":
        column: ColumnElement[Any] = telemetry_records.c[field.key]
        return column
    table = telemetry_series if field.source == "series" else telemetry_resources
    same = telemetry_records.c[table.primary_key.columns.keys()[0]] == table.primary_key.columns[0]
    value = (
        table.c[field.key]
        if field.source == "series"
        else _Json(table.c.attributes, field.key, dialect).text
    )
    return select(value).where(same).scalar_subquery()


def check_keys(connection: Connection, filter: Filter) -> None:
    """See that some record has each attribute that the filter names.

    Raises:
        InvalidArgument: none has; names the nearest that exist.
    """
    keys = {
        f"resource.{one.field.key}" if one.field.source == "resource" else one.field.key
        for one in filter.of("attribute", "resource").conditions
    }
    if not keys:
        return
    column = telemetry_attributes.c.key
    known = set(connection.execute(select(column).distinct().where(column.in_(keys))).scalars())
    unknown = sorted(keys - known)
    if not unknown or _some_are_not_noted(connection):
        return
    if unknown[0] in _TIMES:
        raise InvalidArgument(
            f"{unknown[0]} is no attribute.", "Time is given by since and until, groups by bucket."
        )
    names = connection.execute(select(column).distinct().limit(_KEYS_SHOWN)).scalars()
    raise InvalidArgument(
        f"No record has the attribute {unknown[0]!r}.",
        names_hint(unknown[0], {*names, *FIELDS}, "fields"),
    )


def _some_are_not_noted(connection: Connection) -> bool:
    series = telemetry_attributes.c.series
    full = select(series).group_by(series).having(func.count() >= MAX_KEYS).limit(1)
    return connection.execute(full).first() is not None


def _whole(condition: Condition, dialect: Dialect) -> Sql:
    positive = NEGATIVE.get(condition.op)
    if positive is None:
        return _positive(condition, dialect)
    turned = Condition(condition.field, positive, condition.value)
    return not_(func.coalesce(_positive(turned, dialect), false()))


def _positive(condition: Condition, dialect: Dialect) -> Sql:
    field, op = condition.field, condition.op
    if op == "exists" and condition.value is False:
        present = _positive(Condition(field, "exists", True), dialect)
        return not_(func.coalesce(present, false()))
    if op == "in" and not condition.value:
        return false()
    if field.source == "attribute":
        return _on_json(_Json(telemetry_records.c.attributes, field.key, dialect), condition)
    if field.source == "resource":
        on_json = _on_json(_Json(telemetry_resources.c.attributes, field.key, dialect), condition)
        return telemetry_records.c.resource.in_(
            select(telemetry_resources.c.resource).where(on_json)
        )
    table = telemetry_series if field.source == "series" else telemetry_records
    return _on_column(table.c[field.key], condition, dialect)


def _on_column(column: ColumnElement[Any], condition: Condition, dialect: Dialect) -> Sql:
    op, value = condition.op, condition.value
    if op == "exists":
        return column.is_not(None)
    if isinstance(value, tuple):
        return column.in_(value)
    if op == "prefix" and condition.field.key in ("trace_id", "span_id", "parent_id"):
        return _begins_with_digits(
            column, str(value), 32 if condition.field.key == "trace_id" else 16
        )
    if isinstance(value, str):
        return _on_text(column, op, value, dialect)
    return _compare(op, column, literal(value, column.type))


def _begins_with_digits(column: ColumnElement[Any], digits: str, length: int) -> Sql:
    first, last = (bytes.fromhex(digits.ljust(length, end)) for end in "0f")
    return column.between(first, last)


def _on_text(column: ColumnElement[Any], op: str, value: str, dialect: Dialect) -> Sql:
    if op == "contains":
        find = func.strpos if dialect == "postgresql" else func.instr
        return find(column, literal(value, Text)) > 0
    if op == "prefix":
        return func.substr(column, 1, len(value)) == literal(value, Text)
    if op != "eq" and dialect == "postgresql":
        column = column.collate("C")
    return _compare(op, column, literal(value, Text))


def _compare(op: str, left: ColumnElement[Any], right: ColumnElement[Any]) -> Sql:
    compared: Sql = _OPERATORS[op](left, right)
    return compared


class _Json:
    """The value at a key of a JSON column: its type, and itself as text or number."""

    type: ColumnElement[Any]
    text: ColumnElement[Any]

    def __init__(self, column: ColumnElement[Any], key: str, dialect: Dialect) -> None:
        self.dialect = dialect
        if dialect == "postgresql":
            self._value = column.op("->", return_type=JSONB())(literal(key, Text))
            self.type = func.jsonb_typeof(self._value)
            self.text = column.op("->>", return_type=Text())(literal(key, Text))
        elif json.dumps(key, ensure_ascii=False) == f'"{key}"':
            path = literal(f'$."{key}"', Text)
            self.type = func.json_type(column, path)
            self.text = func.json_extract(column, path)
        else:
            # SQLite's paths have no way to write a key with quotes or the like.
            each = func.json_each(column).table_valued("key", "value", "type")
            here = each.c.key == key
            self.text = select(each.c.value).where(here).scalar_subquery()
            self.type = select(each.c.type).where(here).scalar_subquery()

    def number(self, op: str, value: float) -> Sql:
        """Whether it is a number that compares so with `value`."""
        if self.dialect == "sqlite":
            is_number = self.type.in_(["integer", "real"])
            return and_(is_number, _compare(op, self.text, literal(value)))
        # JSON numbers are exact, as a column of type numeric is.
        sought = cast(literal(json.dumps(value), Text), JSONB)
        return case((self.type == "number", _compare(op, self._value, sought)), else_=false())

    def is_text(self) -> Sql:
        return self.type == ("string" if self.dialect == "postgresql" else "text")

    def is_bool(self, value: bool) -> Sql:
        word = "true" if value else "false"
        if self.dialect == "sqlite":
            return self.type == word
        return and_(self.type == "boolean", self.text == word)


def _on_json(at: _Json, condition: Condition) -> Sql:
    op, value = condition.op, condition.value
    if op == "exists":
        return at.type != "null"
    if isinstance(value, tuple):
        return or_(*(_one_on_json(at, "eq", one) for one in value))
    return _one_on_json(at, op, value)


def _one_on_json(at: _Json, op: str, value: Scalar) -> Sql:
    if isinstance(value, bool):
        return at.is_bool(value)
    if isinstance(value, int | float):
        return at.number(op, value)
    return and_(at.is_text(), _on_text(at.text, op, str(value), at.dialect))
