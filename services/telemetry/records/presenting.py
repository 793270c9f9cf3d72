"""Records as rows for an agent: what is empty or the same throughout is not said on each."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Text, cast

from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_records,
    telemetry_resources,
    telemetry_series,
)
from mcp_hub.services.telemetry.envelope import severity_name
from mcp_hub.services.telemetry.intake.naming import to_text

CHARACTERS = 16_000
"""Of the rows of a result, unless the caller says how many rows it wants."""
BODY_SHOWN = 400
VALUE_SHOWN = 120
KEYS_SHOWN = 20

_CONSTANTS = ("kind", "name", "service", "severity", "unit", "trace_id")
_LAST = ("trace_id", "id")

series_columns: list[ColumnElement[Any]] = [
    telemetry_series.c.kind,
    telemetry_series.c.name,
    telemetry_series.c.service,
]
# As text, which is parsed where it does not hold up the loop.
record_columns: list[ColumnElement[Any]] = [
    *(column for column in telemetry_records.c if column.name not in ("series", "attributes")),
    cast(telemetry_records.c.attributes, Text).label("attributes"),
]
resource_column: ColumnElement[Any] = cast(telemetry_resources.c.attributes, Text).label(
    "resource_attributes"
)


def iso_ns(time: int, digits: int = 3) -> str:
    """Nanoseconds since the epoch as ISO 8601 in UTC, with so many decimals."""
    seconds, rest = divmod(time, 10**9)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest:09d}"[: len(whole) + 1 + digits] + "Z"


def milliseconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else round(duration_ns / 1e6, 6)


def whole(row: Any) -> dict[str, Any]:
    """Everything that is kept of a record."""
    return _present(
        {
            "time": iso_ns(row.time, 9),
            "kind": row.kind,
            "name": row.name,
            "service": row.service,
            **_shared(row),
            "body": row.body,
            "attributes": msgspec.json.decode(row.attributes),
            "resource": msgspec.json.decode(row.resource_attributes or "{}"),
            "trace_id": _hex(row.trace_id),
            "span_id": _hex(row.span_id),
            "parent_id": _hex(row.parent_id),
            "id": str(UUID(bytes=bytes(row.id))),
        }
    )


def short(row: Any) -> dict[str, Any]:
    """A record with what is long cut; then it has its id, by which the rest is had."""
    body, is_cut = _cut(row.body, BODY_SHOWN)
    attributes, some_are_cut = _short_attributes(msgspec.json.decode(row.attributes))
    return _present(
        {
            "time": iso_ns(row.time),
            "kind": row.kind,
            "name": row.name,
            "service": row.service,
            **_shared(row),
            "body": body,
            "attributes": attributes,
            "trace_id": _hex(row.trace_id),
            "id": str(UUID(bytes=bytes(row.id))) if is_cut or some_are_cut else None,
        }
    )


def tabulated(
    records: Sequence[dict[str, Any]],
) -> tuple[list[str], list[list[Any]], dict[str, Any]]:
    """The columns that some record has, the rows, and what is the same in all of several."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    columns.sort(key=lambda name: _LAST.index(name) if name in _LAST else -1)
    same = {
        name: records[0][name]
        for name in _CONSTANTS
        if len(records) > 1
        and name in records[0]
        and all(record.get(name) == records[0][name] for record in records)
    }
    columns = [name for name in columns if name not in same]
    return columns, [[record.get(name) for name in columns] for record in records], same


def room_for(rows: Sequence[Any], characters: int = CHARACTERS) -> int:
    """How many of `rows` fit; the first in any case."""
    for count, row in enumerate(rows):
        characters -= len(to_text(row))
        if characters < 0 and count:
            return count
    return len(rows)


def _shared(row: Any) -> dict[str, Any]:
    return {
        "severity": None if row.severity is None else severity_name(row.severity),
        "duration_ms": milliseconds(row.duration_ns),
        "value": row.value,
        "unit": row.unit,
    }


def _present(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value not in (None, {}, "")}


def _short_attributes(attributes: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    is_cut = len(attributes) > KEYS_SHOWN
    shown: dict[str, Any] = {}
    for key, value in list(attributes.items())[:KEYS_SHOWN]:
        if isinstance(value, dict | list):
            text = msgspec.json.encode(value).decode()
            shown[key] = value if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}…"
            is_cut = is_cut or len(text) > VALUE_SHOWN
        else:
            shown[key], long = _cut(value, VALUE_SHOWN)
            is_cut = is_cut or long
    if len(attributes) > KEYS_SHOWN:
        shown["…"] = f"{len(attributes) - KEYS_SHOWN} more"
    return shown, is_cut


def _cut(value: Any, length: int) -> tuple[Any, bool]:
    if not isinstance(value, str) or len(value) <= length:
        return value, False
    return f"{value[:length]}… ({len(value):,} characters)", True


def _hex(value: bytes | None) -> str | None:
    return None if value is None else bytes(value).hex()
