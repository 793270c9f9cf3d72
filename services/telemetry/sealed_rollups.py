"""The rollups of an hour as sealed: by the hour and by the minute, what is asked together apart.

totals          a row for each series: count, errors, measured, sum, min, max
sketches        the bins of those rows
counts          a row for each series and minute: count, errors, measured
measures        sum, min, max of the same rows
minute_sketches the bins of the same rows
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.telemetry import sketch
from mcp_hub.services.telemetry.cells import Extremes, Sums, merged_bins
from mcp_hub.services.telemetry.columns import Array, pack, unpack

TOTALS, SKETCHES = "totals", "sketches"
COUNTS, MEASURES, MINUTE_SKETCHES = "counts", "measures", "minute_sketches"

_MINUTES = 60
_OFFSET = 1 << 21


@dataclass(frozen=True, slots=True)
class Rolled:
    """Rollups as columns [n]: what each of `minute` (or its hour) has of each of `series`.

    Of a minute and series there may be several rows, to be added up. `sums`, `least`, `most` and
    the bins are there only if they were asked for; `owners` [bins] says of which row each bin is.
    """

    minute: NDArray[np.int64]
    series: NDArray[np.int64]
    count: NDArray[np.float64]
    errors: NDArray[np.float64]
    measured: NDArray[np.float64]
    sums: NDArray[np.float64] | None = None
    least: NDArray[np.float64] | None = None
    most: NDArray[np.float64] | None = None
    keys: NDArray[np.int64] | None = None
    counts: NDArray[np.int64] | None = None
    owners: NDArray[np.intp] | None = None


def columns_of(*, measures: bool, sketches: bool) -> list[str]:
    """The columns of `telemetry_rollups` that these figures are in."""
    names = ["minute", "series", "count", "errors", "measured"]
    return names + ["sum", "min", "max"] * measures + ["sketch"] * sketches


def rolled(rows: Sequence[Any], *, measures: bool, sketches: bool) -> Rolled:
    """Rows of `columns_of` as columns."""
    columns = list(zip(*rows, strict=True)) or [()] * 9
    minute, series = (np.array(column, np.int64) for column in columns[:2])
    count, errors, measured = (np.array(column, np.float64) for column in columns[2:5])
    sums = least = most = keys = counts = owners = None
    if measures:
        # None, of a series without a measure, becomes NaN.
        sums, least, most = (np.array(column, np.float64) for column in columns[5:8])
    if sketches:
        bins, owners = sketch.decode([bytes(text) for text in columns[8 if measures else 5]])
        keys, counts = bins["key"].astype(np.int64), bins["count"].astype(np.int64)
    return Rolled(minute, series, count, errors, measured, sums, least, most, keys, counts, owners)


def sealed(rollups: Sequence[Rolled], hour: int) -> dict[str, bytes]:
    """The sections of an hour whose rollups, with measures and sketches, these are."""
    every = np.unique(np.concatenate([one.series for one in rollups]))
    sections: dict[str, bytes] = {}
    for (plain, measures, sketches), minutes in (
        ((COUNTS, MEASURES, MINUTE_SKETCHES), _MINUTES),
        ((TOTALS, MEASURES, SKETCHES), 1),
    ):
        added, ranges, bins = Sums(4), Extremes(), []
        for one in rollups:
            places = np.searchsorted(every, one.series)
            within = one.minute - hour * _MINUTES if minutes > 1 else np.zeros_like(one.minute)
            cells = places * minutes + within
            assert one.sums is not None
            assert one.owners is not None
            added.add(cells, one.count, one.errors, one.measured, one.sums)
            ranges.add(cells, *_without_none(one))
            bins.append((cells[one.owners], one.keys, one.counts))
        cells, figures = added.result()
        whole = [np.rint(figure).astype(np.int64) for figure in figures[:3]]
        _, least, most = ranges.result()
        head: dict[str, Array] = {"every": every, "series": cells // minutes}
        if minutes > 1:
            head["minute"] = cells % minutes
        head |= dict(zip(("count", "errors", "measured"), whole, strict=True))
        extents = {"sum": figures[3], "min": least, "max": most}
        if minutes > 1:
            sections[plain] = pack(head)
            sections[measures] = pack(extents)
        else:
            sections[plain] = pack(head | extents)
        owners, keys, counts = merged_bins(*map(np.concatenate, zip(*bins, strict=True)))
        lengths = np.bincount(np.searchsorted(cells, owners), minlength=len(cells))
        sections[sketches] = pack({"lengths": lengths, "keys": keys + _OFFSET, "counts": counts})
    return sections


def opened_hour(sections: dict[str, bytes], hour: int) -> Rolled:
    """The rows by the hour; the bins if their section is there."""
    return _opened(
        unpack(sections[TOTALS]), unpack(sections[TOTALS]), sections.get(SKETCHES), hour * _MINUTES
    )


def opened_minutes(sections: dict[str, bytes], hour: int) -> Rolled:
    """The rows by the minute; their measures and bins if those sections are there."""
    measures = sections.get(MEASURES)
    return _opened(
        unpack(sections[COUNTS]),
        unpack(measures) if measures else {},
        sections.get(MINUTE_SKETCHES),
        hour * _MINUTES,
    )


def _opened(
    head: dict[str, Array], measures: dict[str, Array], bins: bytes | None, first: int
) -> Rolled:
    series = head["every"][head["series"]].astype(np.int64)
    minute = (
        head["minute"].astype(np.int64) + first
        if "minute" in head
        else np.full(len(series), first, np.int64)
    )
    keys = counts = owners = None
    if bins is not None:
        opened = unpack(bins)
        owners = np.repeat(np.arange(len(series)), opened["lengths"])
        keys = opened["keys"].astype(np.int64) - _OFFSET
        counts = opened["counts"].astype(np.int64)
    count, errors, measured = (
        head[name].astype(np.float64) for name in ("count", "errors", "measured")
    )
    return Rolled(
        minute, series, count, errors, measured,
        measures.get("sum"), measures.get("min"), measures.get("max"), keys, counts, owners,
    )  # fmt: skip


def _without_none(one: Rolled) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert one.least is not None
    assert one.most is not None
    return (
        np.where(np.isnan(one.least), np.inf, one.least),
        np.where(np.isnan(one.most), -np.inf, one.most),
    )
