"""An aggregate question as it was understood: of which records, grouped how, measured how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.database.telemetry_schema import telemetry_series
from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.telemetry.aggregates.measures import DURATION, VALUE, Measure, Number
from mcp_hub.services.telemetry.envelope import OWN_SERVICES
from mcp_hub.services.telemetry.filtering.filter_sql import check_keys, conditions_on_series
from mcp_hub.services.telemetry.filtering.filters import FIELDS, Condition, Field, Filter, field_of
from mcp_hub.services.telemetry.storage.frames import ATTRIBUTE, SEALED
from mcp_hub.services.telemetry.windows import Window, parse_duration

MAX_GROUP_BY = 4
MAX_BUCKETS = 10_000
MINUTE_NS = 60 * 10**9

_WORDS = {"minute": "1m", "hour": "1h", "day": "1d", "week": "1w"}
_UNGROUPABLE = ("duration_ns", "value", "id", "span_id", "parent_id", "body")


class Series(NamedTuple):
    """A row of `telemetry_series`."""

    series: int
    kind: str
    name: str
    service: str
    unit: str | None


@dataclass(frozen=True, slots=True)
class Buckets:
    """Equal spans of time, the first from `first` (ns); one without an end if `width` is None."""

    first: int
    width: int | None
    count: int

    def of(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The bucket [n] of each of the times (ns)."""
        if self.width is None:
            return np.zeros(len(times), np.int64)
        return (times - self.first) // self.width

    def seconds(self, window: Window) -> NDArray[np.float64]:
        """How much of the window each bucket is."""
        if self.width is None:
            return np.array([window.length / 1e9])
        starts = self.first + np.arange(self.count, dtype=np.int64) * self.width
        ends = np.minimum(starts + self.width, window.until)
        return (ends - np.maximum(starts, window.since)) / 1e9


@dataclass(frozen=True, slots=True)
class Question:
    """`series` are those of the records asked about, `every` whether there are no others.

    `own_left_out` says that others would be, but are the hub's own, which are not meant.
    """

    filter: Filter
    series: Mapping[int, Series]
    every: bool
    own_left_out: bool
    groups: Sequence[Field]
    measures: Sequence[Measure]
    buckets: Buckets

    @property
    def kinds(self) -> list[str]:
        return sorted({one.kind for one in self.series.values()})

    @property
    def numbers(self) -> set[Number]:
        return {one.number for one in self.measures if one.number is not None}

    @property
    def is_of_rollups(self) -> bool:
        """Whether the rollups know the answer."""
        return (
            not self.filter.of("record", "attribute", "resource").conditions
            and all(field.source == "series" for field in self.groups)
            and all(one.unique is None for one in self.measures)
            and len(self.numbers) <= 1
            and all(self._is_rolled(number) for number in self.numbers)
        )

    @property
    def is_of_sealed_columns(self) -> bool:
        """Whether sealed hours have all the fields that it needs."""
        fields = {*self.groups, *(one.field for one in self.filter.conditions)}
        fields |= {one.unique for one in self.measures if one.unique is not None}
        return all(field.source != "record" or field.key in SEALED for field in fields)

    def columns(self, *, with_filter: bool) -> list[str]:
        """The columns of records that it needs, besides the time."""
        fields = {*self.groups, *(one.field for one in self.numbers)}
        fields |= {one.unique for one in self.measures if one.unique is not None}
        if with_filter:
            fields |= {one.field for one in self.filter.conditions}
        names = {"series"} | {column_of(field) for field in fields}
        if any(one.function in ("errors", "error_rate") for one in self.measures):
            names.add("severity")
        return sorted(names)

    def _is_rolled(self, number: Number) -> bool:
        if number.spans is not None:
            return True
        are_spans = {one.kind == "span" for one in self.series.values()}
        return (number.field == DURATION and are_spans <= {True}) or (
            number.field == VALUE and are_spans <= {False}
        )


def column_of(field: Field) -> str:
    """The column of records that a field is in."""
    by_source = {"series": "series", "resource": "resource"}
    if field.source == "attribute":
        return ATTRIBUTE + field.key
    return by_source.get(field.source, field.key)


def parse_groups(names: Sequence[str]) -> list[Field]:
    """The fields to group by.

    Raises:
        InvalidArgument: there are too many, or one tells all records apart.
    """
    if len(names) > MAX_GROUP_BY:
        raise InvalidArgument(
            f"group_by has {len(names)} fields; at most {MAX_GROUP_BY} are taken."
        )
    fields = [field_of(name) for name in dict.fromkeys(names)]
    for field in fields:
        if field.source == "record" and field.key in _UNGROUPABLE:
            groupable = [name for name in FIELDS if name not in (*_UNGROUPABLE, "duration_ms")]
            raise InvalidArgument(
                f"Records are not grouped by {field.key}.",
                f"Group by {', '.join(groupable)}, an attribute's key or resource.key.",
            )
    return fields


def parse_buckets(bucket: str | None, window: Window) -> Buckets:
    """The buckets of a window, which begin at multiples of their width.

    Raises:
        InvalidArgument: the width is none, no whole minutes, or too small for the window.
    """
    if bucket is None:
        return Buckets(window.since, None, 1)
    width = parse_duration(_WORDS.get(bucket, bucket), "bucket")
    if width <= 0 or width % MINUTE_NS:
        raise InvalidArgument(
            f"bucket is {bucket!r}.", "It is whole minutes: minute, 5m, hour, 6h or day."
        )
    first = window.since // width * width
    count = -(-(window.until - first) // width)
    if count > MAX_BUCKETS:
        raise InvalidArgument(
            f"The window has {count:,} buckets of {bucket}; at most {MAX_BUCKETS:,} are made.",
            "Ask for a wider bucket or a shorter window.",
        )
    return Buckets(first, width, count)


def find_series(
    connection: Connection, filter: Filter, dialect: Dialect
) -> tuple[dict[int, Series], bool, bool]:
    """The series that meet the filter's conditions on them, whether all do, and whether the hub's
    own do and were left out, as they are unless the filter may mean them.

    Raises:
        InvalidArgument: none has a name or a service that the filter asks for.
    """
    conditions = conditions_on_series(filter, dialect)
    columns = [telemetry_series.c[name] for name in Series._fields]
    rows = connection.execute(select(*columns).where(*conditions)).fetchall()
    if not rows:
        for condition in filter.of("series").conditions:
            _check_known(connection, condition)
    meant = [row for row in rows if filter.may_mean_own or row.service not in OWN_SERVICES]
    count = len(rows)
    if conditions:
        count = connection.execute(select(func.count()).select_from(telemetry_series)).scalar_one()
    found = {row.series: Series(*row) for row in meant}
    return found, len(meant) == count, len(meant) < len(rows)


def check_fields(connection: Connection, fields: Sequence[Field]) -> None:
    """See that some record has each attribute among the fields. Raises as `check_keys`."""
    there = (Condition(field, "exists", True) for field in fields)
    check_keys(connection, Filter(tuple(there)))


def _check_known(connection: Connection, condition: Condition) -> None:
    """Raise InvalidArgument if an exact name is asked for that does not exist."""
    key = condition.field.key
    if condition.op != "eq" or key == "kind":
        return
    column = telemetry_series.c[key]
    known = connection.execute(select(column).distinct()).scalars().all()
    if known and condition.value not in known:
        raise InvalidArgument(
            f"No record has the {key} {condition.value!r}.",
            names_hint(str(condition.value), known, f"{key}s"),
        )
