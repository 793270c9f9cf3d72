"""Records in columns, whether they come from the sealed parts of an hour or from the table."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, ColumnElement, Text, cast, literal

from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.database.telemetry_schema import telemetry_records
from mcp_hub.services.telemetry.intake.naming import to_text
from mcp_hub.services.telemetry.storage.columns import (
    Array,
    Coded,
    coded,
    coded_texts,
    nothing,
    pack,
    pack_coded,
    unpack,
    unpack_coded,
)

PART = 32_768
"""Records of a sealed part at most."""
ATTRIBUTE = "attributes."
REST = "attributes"
"""The column of a part with the attributes that have none of their own, as JSON."""

_OWN_COLUMNS = 48
_OWN_FROM = 64
"""A key has a column of its own if one record in so many has it."""
_NONE = -1

SEALED = ("time", "series", "severity", "duration_ns", "value", "resource")
"""The fields of records that are sealed, besides the attributes."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(slots=True)
class Frame:
    """Columns [n] of some records; only those that were asked for are there."""

    time: NDArray[np.int64]
    columns: dict[str, Coded | Array]

    def __len__(self) -> int:
        return len(self.time)

    def coded(self, name: str) -> Coded:
        """The column `series`, `severity`, `resource`, `attributes.key`, or a field of text."""
        column = self.columns[name]
        assert isinstance(column, Coded)
        return column

    def numbers(self, name: str) -> NDArray[np.float64]:
        """The column `duration_ns` or `value`; NaN where a record has none."""
        column = self.columns[name]
        assert isinstance(column, np.ndarray)
        return column

    def at(self, rows: NDArray[np.bool_]) -> "Frame":
        """The records that the mask `rows` [n] holds for."""
        columns = {
            name: column.at(rows) if isinstance(column, Coded) else column[rows]
            for name, column in self.columns.items()
        }
        return Frame(self.time[rows], columns)


def sealed_part(rows: Sequence[Any]) -> dict[str, bytes]:
    """The columns, packed, of rows with `SEALED` and `attributes`, sorted by time."""
    time = np.array([row.time for row in rows], np.int64)
    packed = {
        "time": pack({"first": time[:1], "after": np.diff(time)}),
        "series": pack_coded(coded(row.series for row in rows)),
        "severity": pack_coded(coded(row.severity for row in rows)),
        "resource": pack_coded(coded(row.resource for row in rows)),
    }
    durations = [_NONE if row.duration_ns is None else row.duration_ns for row in rows]
    values = [np.nan if row.value is None else row.value for row in rows]
    if any(duration != _NONE for duration in durations):
        packed["duration_ns"] = pack({"numbers": np.array(durations, np.int64) + 1})
    if any(value == value for value in values):
        packed["value"] = pack({"numbers": np.array(values, np.float64)})
    attributes = [_decode(row.attributes) for row in rows]
    counts = Counter(key for one in attributes for key in one)
    own = {
        key
        for key, count in counts.most_common(_OWN_COLUMNS)
        if count * _OWN_FROM >= len(rows) and len(key) <= 256
    }
    for key in own:
        packed[ATTRIBUTE + key] = pack_coded(coded(one.get(key) for one in attributes))
    if counts.keys() - own:
        rest = ({k: v for k, v in one.items() if k not in own} for one in attributes)
        packed[REST] = pack_coded(coded(to_text(one) if one else None for one in rest))
    return packed


def opened_part(packed: Mapping[str, bytes], wanted: Iterable[str]) -> Frame:
    """The `wanted` columns of a sealed part; a field that none of its records has is empty."""
    times = unpack(packed["time"])
    time = np.concatenate((times["first"], times["after"])).astype(np.int64)
    np.cumsum(time, out=time)
    columns: dict[str, Coded | Array] = {}
    rest: list[dict[str, Any]] | None = None
    for name in wanted:
        if name in ("duration_ns", "value"):
            columns[name] = _numbers(packed.get(name), len(time), whole=name == "duration_ns")
        elif name in packed:
            columns[name] = unpack_coded(packed[name])
        elif name.startswith(ATTRIBUTE) and REST in packed:
            texts = unpack_coded(packed[REST])
            if rest is None:
                rest = [{} if text is None else _decode(text) for text in texts.values]
            key = name.removeprefix(ATTRIBUTE)
            columns[name] = Coded(texts.values, texts.codes).translated(
                one.get(key) for one in rest
            )
        else:
            columns[name] = nothing(len(time))
    return Frame(time, columns)


def expressions(wanted: Iterable[str], dialect: Dialect) -> dict[str, ColumnElement[Any]]:
    """What to select of `telemetry_records` for the `wanted` columns, by the names of the result.

    An attribute is selected as the JSON text of its value, which keeps its type.
    """
    found: dict[str, ColumnElement[Any]] = {"time": telemetry_records.c.time}
    attributes: Column[Any] = telemetry_records.c.attributes
    for name in wanted:
        if not name.startswith(ATTRIBUTE):
            found[name] = telemetry_records.c[name]
            continue
        key = name.removeprefix(ATTRIBUTE)
        if dialect == "postgresql":
            found[name] = cast(attributes.op("->")(literal(key, Text)), Text)
        elif json.dumps(key, ensure_ascii=False) == f'"{key}"':
            found[name] = attributes.op("->")(literal(f'$."{key}"', Text))
        else:
            # SQLite's paths have no way to write a key with quotes or the like.
            found[REST] = attributes
    return found


def frame_of(rows: Sequence[Any], selected: Sequence[str], wanted: Iterable[str]) -> Frame:
    """The `wanted` columns of rows whose fields are the `selected` ones of `expressions`."""
    fields = dict(zip(selected, zip(*rows, strict=True), strict=False)) if rows else {}
    whole = [_decode(text) for text in fields.get(REST, ())]
    columns: dict[str, Coded | Array] = {}
    for name in wanted:
        values = fields.get(name, ())
        if name in ("duration_ns", "value"):
            columns[name] = np.array([np.nan if v is None else v for v in values], np.float64)
        elif not name.startswith(ATTRIBUTE):
            columns[name] = coded(v.hex() if isinstance(v, bytes) else v for v in values)
        elif name in fields or not rows:
            columns[name] = coded_texts(values)
        else:
            key = name.removeprefix(ATTRIBUTE)
            columns[name] = coded(one.get(key) for one in whole)
    return Frame(np.array(fields.get("time", ()), np.int64), columns)


def _numbers(data: bytes | None, length: int, *, whole: bool) -> NDArray[np.float64]:
    if data is None:
        return np.full(length, np.nan)
    numbers = unpack(data)["numbers"].astype(np.float64)
    # Whole numbers are kept one higher, so that 0 says that there is none.
    return np.where(numbers > 0, numbers - 1, np.nan) if whole else numbers
