"""What records refer to or are found by: series, resources, patterns and attribute keys.

Each is written once, in the transaction of the first record that has it. A process remembers what
it knows to be committed, and asks again for nothing; but patterns, of which those not seen for long
are removed, it notes again every `NOTED_EVERY_S`.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, func, select

from mcp_hub.adapters.database.nul import without_nul
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_attributes,
    telemetry_patterns,
    telemetry_resources,
    telemetry_series,
)
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.envelope import Attributes, Record
from mcp_hub.services.telemetry.intake.masking import mask

MAX_SERIES = 100_000
MAX_PATTERNS = 100_000
"""Where bodies never repeat, their patterns say nothing: further ones have none."""
NOTED_EVERY_S = 6 * 3600
MAX_KEYS = 2_000
"""Attribute keys that are kept for discovery, for each series; further ones are only stored."""
EXAMPLES = 20
_EXAMPLE_LENGTH = 100
_KEY_LENGTH = 256

_MEMORY = 50_000
_MOST_FIELDS = 20_000
_MOST_SHAPES = 10_000
_SHAPES_EACH = 32

Shape = tuple[tuple[str, frozenset[type] | None, dict[Any, None] | None], ...]
"""For each attribute that may not have just any value: its key, and the classes and the values
that it may have, None for any."""

_encoder = msgspec.json.Encoder()
_sorting_encoder = msgspec.json.Encoder(order="deterministic")


@dataclass(slots=True)
class Field:
    """What is known of one attribute key of one series."""

    types: set[str] = field(default_factory=set)
    examples: dict[Any, None] = field(default_factory=dict)
    many: bool = False


@dataclass(slots=True)
class News:
    """What a batch refers to that may not be committed yet, by key, as rows to insert."""

    series: dict[int, dict[str, Any]] = field(default_factory=dict)
    resources: dict[int, dict[str, Any]] = field(default_factory=dict)
    patterns: dict[int, dict[str, Any]] = field(default_factory=dict)
    fields: dict[tuple[int, str], Field] = field(default_factory=dict)
    described: set[tuple[int, int]] = field(default_factory=set)
    written: dict[bytes, int] = field(default_factory=dict)
    """The numbers of resources, by their JSON as it came."""

    def merge(self, other: "News") -> None:
        self.series |= other.series
        self.resources |= other.resources
        self.patterns |= other.patterns
        self.fields |= other.fields
        self.described |= other.described
        self.written |= other.written


class Names:
    """What this process knows to be committed."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, str], int] = {}
        self._resources: dict[bytes, int] = {}
        self._patterns: dict[tuple[int, str], int] = {}
        self._noted_before: dict[tuple[int, str], int] = {}
        """The patterns that are to be noted again."""
        self._described: set[tuple[int, int]] = set()
        self._fields: dict[tuple[int, str], Field] = {}
        self._keys: dict[int, int] = {}
        self._shapes: dict[int, dict[tuple[str, ...], Shape]] = {}
        self._totals: dict[str, int] | None = None
        self._counted_at = 0.0

    @property
    def counted(self) -> bool:
        """Whether `count` has been called in the last `NOTED_EVERY_S`."""
        return self._totals is not None and time.monotonic() < self._counted_at + NOTED_EVERY_S

    def count(self, connection: Connection) -> None:
        """See how many series and patterns there are, which the limits are for, and have the
        patterns noted again that are seen from now on."""
        if self.counted:
            return
        self._totals = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (telemetry_series, telemetry_patterns)
        }
        self._counted_at = time.monotonic()
        self._noted_before, self._patterns = self._patterns, {}

    def series(self, record: Record, news: News) -> int:
        """The record's series.

        Raises:
            ValueError: there are too many series for another one.
        """
        at = (record.kind, record.name, record.service)
        known = self._series.get(at)
        if known is not None:
            return known
        series = envelope.series_key(*at)
        if series in news.series:
            return series
        if self._is_full(telemetry_series, MAX_SERIES, len(news.series)):
            raise ValueError(
                f"there are {MAX_SERIES:,} combinations of kind, name and service already: "
                "put what varies into attributes"
            )
        news.series[series] = {
            "series": series,
            "kind": record.kind,
            "name": record.name,
            "service": record.service,
            "unit": record.unit,
        }
        return series

    def resource(self, resource: Attributes, news: News) -> int:
        """The number of what produced a record; 0 for nothing."""
        if not resource:
            return 0
        written = _encoder.encode(resource)
        known = self._resources.get(written)
        if known is not None:
            return known
        text = to_text(resource, sort=True)
        number = envelope.stable_hash(text)
        news.resources[number] = {"resource": number, "attributes": text}
        news.written[written] = number
        return number

    def pattern(self, record: Record, series: int, news: News) -> int | None:
        """The number of the pattern of the record's body, if it has one."""
        if not record.body or record.kind not in ("log", "event"):
            return None
        masked = mask(record.body)
        at = (series, masked)
        known = self._patterns.get(at)
        if known is not None:
            return known
        number = envelope.stable_hash(f"{series}\0{masked}")
        if number in news.patterns:
            return number
        is_there = at in self._noted_before
        if not is_there and self._is_full(telemetry_patterns, MAX_PATTERNS, len(news.patterns)):
            return None
        news.patterns[number] = {
            "pattern": number,
            "series": series,
            "mask": masked,
            "example": record.body[:1_000],
            "severity": record.severity,
            "first_time": record.time,
        }
        return number

    def describe(self, record: Record, series: int, resource: int, news: News) -> None:
        """Note the record's attributes, so that `telemetry_fields` can tell of them."""
        attributes = record.attributes
        if attributes and not self._is_known(series, attributes):
            before = len(news.fields)
            for key, value in attributes.items():
                self._note(series, key, value, news)
            if len(news.fields) == before:
                self._learn(series, attributes)
        if resource and (series, resource) not in self._described:
            news.described.add((series, resource))
            for key, value in record.resource.items():
                self._note(series, f"resource.{key}", value, news)

    def write(self, connection: Connection, news: News) -> None:
        """Insert what is new, in the caller's transaction; `kept` is to follow its commit."""
        _insert(connection, telemetry_series, news.series.values())
        _insert(connection, telemetry_resources, _resource_rows(connection, news))
        _note_patterns(connection, news.patterns)
        if news.fields:
            _upsert_fields(connection, news.fields)

    def kept(self, news: News) -> None:
        """The transaction of `write` was committed."""
        if self._totals is not None:
            self._totals[telemetry_series.name] += len(news.series)
            self._totals[telemetry_patterns.name] += sum(
                (row["series"], row["mask"]) not in self._noted_before
                for row in news.patterns.values()
            )
        for row in news.series.values():
            self._series[row["kind"], row["name"], row["service"]] = row["series"]
        _make_room(self._resources)
        self._resources.update(news.written)
        _make_room(self._patterns)
        for row in news.patterns.values():
            self._patterns[row["series"], row["mask"]] = row["pattern"]
        _make_room(self._described)
        self._described |= news.described
        if len(self._fields) > _MOST_FIELDS:
            self._fields.clear()
            self._shapes.clear()
        for at, new_field in news.fields.items():
            if at not in self._fields:
                self._keys[at[0]] = self._keys.get(at[0], 0) + 1
            self._fields[at] = new_field
            self._shapes.pop(at[0], None)

    def _is_known(self, series: int, attributes: Attributes) -> bool:
        """Whether nothing of these attributes would change what is known of the series."""
        shapes = self._shapes.get(series)
        shape = shapes.get(tuple(attributes)) if shapes else None
        if shape is None:
            return False
        try:
            for key, classes, examples in shape:
                value = attributes[key]
                if classes is not None and value.__class__ not in classes:
                    return False
                if examples is not None and value not in examples:
                    return False
        except TypeError:  # a list or an object, which are nobody's key
            return False
        return True

    def _learn(self, series: int, attributes: Attributes) -> None:
        """Remember what would change nothing in attributes with these keys."""
        known = {key: self._fields.get((series, key)) for key in attributes}
        if None in known.values():
            return
        if len(self._shapes) > _MOST_SHAPES:
            self._shapes.clear()
        shapes = self._shapes.setdefault(series, {})
        if len(shapes) < _SHAPES_EACH:
            bounds = [(key, *_bounds(one)) for key, one in known.items() if one is not None]
            shapes[tuple(attributes)] = tuple(
                one for one in bounds if one[1] is not None or one[2] is not None
            )

    def _is_full(self, table: Table, most: int, new: int) -> bool:
        return self._totals is not None and self._totals[table.name] + new >= most

    def _note(self, series: int, key: str, value: Any, news: News) -> None:
        at = (series, key)
        known = news.fields.get(at) or self._fields.get(at)
        kind = _type_of(value)
        if known is None:
            if len(key) > _KEY_LENGTH or self._keys.get(series, 0) >= MAX_KEYS:
                return
            known = Field()
        elif kind in known.types and (known.many or _example(value) in known.examples):
            return
        changed = Field(known.types | {kind}, dict(known.examples), known.many)
        if _example(value) not in changed.examples:
            if len(changed.examples) < EXAMPLES:
                changed.examples[_example(value)] = None
            else:
                changed.many = True
        news.fields[at] = changed


def to_text(value: Any, *, sort: bool = False) -> str:
    """`value` as JSON text that any database keeps: without NUL characters."""
    if not value and value == {}:
        return "{}"
    encoder = _sorting_encoder if sort else _encoder
    return without_nul(encoder.encode(value).decode("utf-8", "replace"))


def to_texts(values: Sequence[Attributes]) -> list[str]:
    """`to_text` of each of the values, at once.

    Raises:
        ValueError, TypeError, OverflowError, RecursionError: one of them cannot be encoded.
    """
    text = _encoder.encode_lines(values).decode("utf-8", "replace")
    return without_nul(text).split("\n")[:-1]


def _make_room(known: "dict[Any, Any] | set[Any]") -> None:
    if len(known) > _MEMORY:
        known.clear()


_CLASSES: dict[str, tuple[type, ...]] = {
    "string": (str,), "boolean": (bool,), "number": (int, float), "null": (type(None),),
}  # fmt: skip


def _bounds(field: Field) -> tuple[frozenset[type] | None, dict[Any, None] | None]:
    """The classes and the values by which nothing new is learnt of a field; None for any."""
    # A text is in no other way among examples than as a text.
    is_told_by_value = field.types == {"string"} and not field.many
    classes = frozenset(chain.from_iterable(_CLASSES.get(name, ()) for name in field.types))
    return None if is_told_by_value else classes, None if field.many else field.examples


def _type_of(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if value is None:
        return "null"
    return "array" if isinstance(value, list | tuple) else "object"


def _example(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_EXAMPLE_LENGTH]
    if value is None or isinstance(value, bool | int | float):
        return value
    return to_text(value)[:_EXAMPLE_LENGTH]


def _resource_rows(connection: Connection, news: News) -> Iterable[dict[str, Any]]:
    """The new resources as their column takes them: PostgreSQL's JSONB encodes by itself."""
    if connection.dialect.name == "sqlite":
        return news.resources.values()
    return [
        row | {"attributes": msgspec.json.decode(row["attributes"])}
        for row in news.resources.values()
    ]


def _insert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    values = list(rows)
    if values:
        connection.execute(insert_for(connection, table).on_conflict_do_nothing(), values)


def _note_patterns(connection: Connection, patterns: dict[int, dict[str, Any]]) -> None:
    if not patterns:
        return
    insert = insert_for(connection, telemetry_patterns)
    now = time.time_ns()
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["pattern"], set_={"last_time": insert.excluded.last_time}
        ),
        # In one order: two processes that note the same do not wait for each other in a circle.
        [patterns[number] | {"last_time": now} for number in sorted(patterns)],
    )


def _upsert_fields(connection: Connection, fields: dict[tuple[int, str], Field]) -> None:
    table = telemetry_attributes
    insert = insert_for(connection, table)
    values: Sequence[dict[str, Any]] = [
        {
            "series": series,
            "key": key,
            "types": " ".join(sorted(one.types)),
            "examples": to_text(list(one.examples)),
            "many": one.many,
        }
        for (series, key), one in fields.items()
    ]
    changed = {name: insert.excluded[name] for name in ("types", "examples", "many")}
    connection.execute(
        insert.on_conflict_do_update(index_elements=["series", "key"], set_=changed), values
    )
