"""The rollups of an hour as sealed: by the hour and by the minute, what is asked together apart.

totals          a row for each series: count, errors, measured, sum, min, max
sketches        the bins of those rows
counts          a row for each series and minute: count, errors, measured
measures        sum, min, max of the same rows
minute_sketches the bins of the same rows
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry import sketch
from mcp_hub.services.telemetry.storage.cells import Extremes, RowBins, Sums, merged_bins
from mcp_hub.services.telemetry.storage.columns import Array, pack, unpack

TOTALS, SKETCHES = "totals", "sketches"
COUNTS, MEASURES, MINUTE_SKETCHES = "counts", "measures", "minute_sketches"

HOUR_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Rolled:
    """Rollups as columns [n]: what each of `minute` (or the hour that it begins) has of a series.

    `at` says which of `series` [k] a row is of. Of a minute and series there may be several rows,
    to be added up. What was not asked for, of sums, extremes and bins, is not there.
    """

    series: NDArray[np.int64]
    at: Array
    minute: NDArray[np.int64]
    count: Array
    errors: Array
    measured: Array
    sums: Array | None = None
    least: Array | None = None
    most: Array | None = None
    bins: RowBins | None = None


def columns_of(*, measures: bool, sketches: bool) -> list[str]:
    """The columns of `telemetry_rollups` that these figures are in."""
    names = ["minute", "series", "count", "errors", "measured"]
    return names + ["sum", "min", "max"] * measures + ["sketch"] * sketches


def rolled(rows: Sequence[Any], *, measures: bool, sketches: bool) -> Rolled:
    """Rows of `columns_of` as columns."""
    columns = list(zip(*rows, strict=True))
    series, at = np.unique(np.array(columns[1], np.int64), return_inverse=True)
    minute, count, errors, measured = (np.array(columns[place], np.int64) for place in (0, 2, 3, 4))
    sums = least = most = bins = None
    if measures:
        # None, of a series without a measure, becomes NaN.
        sums, least, most = (np.array(column, np.float64) for column in columns[5:8])
    if sketches:
        texts = [bytes(text) for text in columns[8 if measures else 5]]
        decoded, owners = sketch.decode(texts)
        lengths = np.bincount(owners, minlength=len(texts))
        bins = RowBins(lengths, decoded["key"], decoded["count"])
    return Rolled(series, at, minute, count, errors, measured, sums, least, most, bins)


def sealed(rollups: Sequence[Rolled], hour: int) -> dict[str, bytes]:
    """The sections of an hour whose rollups, with measures and sketches, these are."""
    every = np.unique(np.concatenate([one.series for one in rollups]))
    by_minute = _added(rollups, every, HOUR_MINUTES, hour * HOUR_MINUTES)
    by_hour = _added(rollups, every, 1, hour * HOUR_MINUTES)
    extents = ("sum", "min", "max")
    return {
        TOTALS: pack({"every": every, **by_hour.figures}),
        SKETCHES: pack(by_hour.bins),
        COUNTS: pack(
            {
                "every": every,
                **{name: one for name, one in by_minute.figures.items() if name not in extents},
            }
        ),
        MEASURES: pack({name: by_minute.figures[name] for name in extents}),
        MINUTE_SKETCHES: pack(by_minute.bins),
    }


def opened_hour(sections: Mapping[str, bytes], hour: int) -> Rolled:
    """The rows by the hour; the bins if their section is there."""
    totals = unpack(sections[TOTALS])
    return _opened(totals, totals, sections.get(SKETCHES), hour)


def opened_minutes(sections: Mapping[str, bytes], hour: int) -> Rolled:
    """The rows by the minute; their measures and bins if those sections are there."""
    measures = sections.get(MEASURES)
    return _opened(
        unpack(sections[COUNTS]),
        unpack(measures) if measures else {},
        sections.get(MINUTE_SKETCHES),
        hour,
    )


@dataclass(frozen=True, slots=True)
class _Added:
    figures: dict[str, Array]
    bins: dict[str, Array]


def _added(rollups: Sequence[Rolled], every: NDArray[np.int64], minutes: int, first: int) -> _Added:
    """The rollups with those of the same series and minute, of so many of the hour, as one."""
    sums, extremes = Sums(4), Extremes()
    owners, keys, counts = [], [], []
    for one in rollups:
        assert one.sums is not None
        assert one.least is not None
        assert one.most is not None
        assert one.bins is not None
        cells = np.searchsorted(every, one.series)[one.at] * minutes
        if minutes > 1:
            cells = cells + one.minute - first
        sums.add(cells, one.count, one.errors, one.measured, one.sums)
        extremes.add(
            cells,
            np.where(np.isnan(one.least), np.inf, one.least),
            np.where(np.isnan(one.most), -np.inf, one.most),
        )
        owners.append(np.repeat(cells, one.bins.lengths))
        keys.append(one.bins.keys.astype(np.int64))
        counts.append(one.bins.counts.astype(np.int64))
    cells, (count, errors, measured, total) = sums.result()
    _, least, most = extremes.result()
    figures = {"at": cells // minutes}
    if minutes > 1:
        figures["minute"] = cells % minutes
    for name, figure in (("count", count), ("errors", errors), ("measured", measured)):
        figures[name] = np.rint(figure).astype(np.int64)
    of, key, number = merged_bins(*map(np.concatenate, (owners, keys, counts)))
    lengths = np.bincount(np.searchsorted(cells, of), minlength=len(cells))
    lowest = key.min() if len(key) else 0
    bins = {
        "lowest": np.array([lowest - _LEAST_KEY]),
        "lengths": lengths,
        "keys": key - lowest,
        "counts": number,
    }
    return _Added({**figures, "sum": total, "min": least, "max": most}, bins)


_LEAST_KEY = -(1 << 22)


def _opened(
    head: Mapping[str, Array], measures: Mapping[str, Array], packed: bytes | None, hour: int
) -> Rolled:
    minute = np.full(1, hour * HOUR_MINUTES, np.int64)
    if "minute" in head:
        minute = head["minute"] + minute
    bins = None
    if packed is not None:
        opened = unpack(packed)
        lowest = int(opened["lowest"][0]) + _LEAST_KEY
        bins = RowBins(opened["lengths"], opened["keys"], opened["counts"], lowest)
    return Rolled(
        head["every"], head["at"], minute, head["count"], head["errors"], head["measured"],
        measures.get("sum"), measures.get("min"), measures.get("max"), bins,
    )  # fmt: skip
