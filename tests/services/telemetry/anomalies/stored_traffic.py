"""A day of traffic in a database as ingest would leave it, without a row for each record."""

import numpy as np
from sqlalchemy import Connection, Table

from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_pattern_counts,
    telemetry_patterns,
    telemetry_rollups,
    telemetry_series,
)
from mcp_hub.adapters.records.port import RecordStore, Row
from mcp_hub.services.telemetry import sketch
from mcp_hub.services.telemetry.envelope import Record, series_key, stable_hash
from mcp_hub.services.telemetry.intake.masking import mask

from .traffic import MINUTE_NS, Day, Stream, filled

_AT_ONCE = 1000


def store_day(connection: Connection, store: RecordStore, day: Day, traces: list[Record]) -> None:
    """Write series, rollups, patterns and their counts; of records, the events and `traces`."""
    rows = []
    for stream in day.streams:
        if not len(stream.times):
            continue
        series = series_key(stream.kind, stream.name, stream.service)
        named = {"series": series, "kind": stream.kind, "name": stream.name}
        named |= {"service": stream.service, "unit": stream.unit}
        connection.execute(telemetry_series.insert(), [named])
        _insert(connection, telemetry_rollups, _rollups(stream, series))
        if stream.templates is not None:
            _patterns(connection, stream, series)
        if stream.kind == "event":
            rows += [_row(time, place, series) for place, time in enumerate(stream.times.tolist())]
    for record in traces:
        series = series_key(record.kind, record.name, record.service)
        rows.append(
            Row(
                record.time,
                record.id,
                series,
                None,
                record.trace_id,
                record.span_id,
                record.parent_id,
                record.duration_ns,
                None,
                None,
                None,
                "{}",
                0,
                None,
            )
        )
    if rows:
        store.insert(connection, rows, all_new=True)


def _row(time: int, place: int, series: int) -> Row:
    id = stable_hash(f"{series} {time} {place}").to_bytes(16, "big")
    return Row(time, id, series, *[None] * 8, "{}", 0, None)


def _rollups(stream: Stream, series: int) -> list[dict[str, object]]:
    minutes, starts = np.unique(stream.times // MINUTE_NS, return_index=True)
    stops = np.append(starts[1:], len(stream.times))
    failed = stream.severities >= 17 if stream.severities is not None else None
    keys = sketch.keys_of(stream.measures) if stream.measures is not None else None
    rows = []
    for minute, start, stop in zip(minutes.tolist(), starts, stops, strict=True):
        row: dict[str, object] = {
            "minute": minute, "series": series, "writer": 1, "count": int(stop - start),
            "errors": int(failed[start:stop].sum()) if failed is not None else 0,
            "measured": 0, "sum": 0.0, "min": None, "max": None, "sketch": b"",
        }  # fmt: skip
        if keys is not None and stream.measures is not None:
            values = stream.measures[start:stop]
            found, counts = np.unique(keys[start:stop], return_counts=True)
            bins = dict(zip(found.tolist(), counts.tolist(), strict=True))
            row |= {
                "measured": len(values), "sum": float(values.sum()), "min": float(values.min()),
                "max": float(values.max()), "sketch": sketch.encode([bins])[0],
            }  # fmt: skip
        rows.append(row)
    return rows


def _patterns(connection: Connection, stream: Stream, series: int) -> None:
    known, counts = [], []
    for number, text in enumerate(stream.texts):
        assert stream.templates is not None
        assert stream.severities is not None
        places = np.flatnonzero(stream.templates == number)
        if not len(places):
            continue
        example = filled(text, int(places[0]))
        pattern = stable_hash(f"{series}\0{mask(example)}")
        known.append(
            {
                "pattern": pattern, "series": series, "mask": mask(example), "example": example,
                "severity": int(stream.severities[places[0]]),
                "first_time": int(stream.times[places[0]]),
            }
        )  # fmt: skip
        minutes, found = np.unique(stream.times[places] // MINUTE_NS, return_counts=True)
        counts += [
            {"minute": minute, "pattern": pattern, "writer": 1, "count": count}
            for minute, count in zip(minutes.tolist(), found.tolist(), strict=True)
        ]
    _insert(connection, telemetry_patterns, known)
    _insert(connection, telemetry_pattern_counts, counts)


def _insert(connection: Connection, table: Table, rows: list[dict[str, object]]) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        connection.execute(table.insert(), rows[start : start + _AT_ONCE])
