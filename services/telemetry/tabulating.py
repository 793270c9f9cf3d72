"""The table of an aggregate from what was counted: its rows in order, a page of them, rounded."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mcp_hub.services.pages import encode_cursor
from mcp_hub.services.telemetry.asking import Buckets, Question
from mcp_hub.services.telemetry.cells import Cells, Floats
from mcp_hub.services.telemetry.measures import Measure
from mcp_hub.services.telemetry.tally import Groups, Tally
from mcp_hub.services.telemetry.views import Table
from mcp_hub.services.telemetry.windows import Window

_DIGITS = 6
_SUM_DIGITS = 12
_CHANGE_DIGITS = 4
_WHOLE = 2.0**53


def tabulated(
    question: Question,
    window: Window,
    tallies: Sequence[Tally],
    groups: Groups,
    skipped: int,
    limit: int,
) -> Table:
    """The page of `limit` rows after `skipped` of what the tallies have, of now and of before."""
    buckets = question.buckets
    seconds = buckets.seconds(window)
    found = [tally.figures(seconds, buckets.count) for tally in tallies]
    cells = found[0][0] if len(found) == 1 else np.union1d(found[0][0], found[1][0])
    periods = [
        [
            _aligned(cells, where, figure, measure)
            for figure, measure in zip(figures, question.measures, strict=True)
        ]
        for where, figures in found
    ]
    first = periods[0][0]
    by_size = np.where(np.isnan(first), np.inf, -first)
    group, bucket = np.divmod(cells, buckets.count)
    # Time first, then the largest; what is equal, the same way at each page.
    order = np.lexsort((groups.order()[group], by_size, bucket))
    more = len(order) > skipped + limit
    order = order[skipped : skipped + limit]
    columns = _labels(question, groups, group[order], bucket[order])
    for place, measure in enumerate(question.measures):
        columns += _figures(measure, [one[place][order] for one in periods])
    # Built of what was counted here: to look at each value again would take the longest.
    return Table.model_construct(
        columns=_names(question, compared=len(tallies) > 1),
        rows=list(map(list, zip(*columns, strict=True))),
        truncated=more,
        next_cursor=encode_cursor(window.since, window.until, skipped + limit) if more else None,
        note=None,
    )


def _labels(question: Question, groups: Groups, group: Cells, bucket: Cells) -> list[list[Any]]:
    """The columns of the groups' values, and of the buckets' times."""
    rows = groups.rows
    columns = [
        [rows[one][place] for one in group.tolist()] for place in range(len(question.groups))
    ]
    if question.buckets.width is not None:
        columns.append(_times(question.buckets, bucket))
    return columns


def _times(buckets: Buckets, bucket: Cells) -> list[str]:
    """When the buckets begin, as ISO 8601 to the minute."""
    every, places = np.unique(bucket, return_inverse=True)
    assert buckets.width is not None
    starts = (buckets.first + every * buckets.width).astype("datetime64[ns]")
    texts = np.datetime_as_string(starts, unit="m").astype(object) + "Z"
    return texts[places].tolist()  # type: ignore[no-any-return]


def _names(question: Question, *, compared: bool) -> list[str]:
    names = [str(field) for field in question.groups]
    if question.buckets.width is not None:
        names.append("time")
    for measure in question.measures:
        names.append(measure.label)
        if compared:
            names += [f"{measure.label}.before", f"{measure.label}.change"]
    return names


def _aligned(cells: Cells, where: Cells, figure: Floats, measure: Measure) -> Floats:
    """The figure of each of the cells; counts are 0 where there are no records."""
    empty = 0.0 if measure.function in ("count", "rate", "errors", "unique") else np.nan
    result = np.full(len(cells), empty)
    result[np.searchsorted(cells, where)] = figure
    if measure.number is not None and measure.number.is_duration:
        result /= 1e6
    return result


def _figures(measure: Measure, periods: Sequence[Floats]) -> list[list[Any]]:
    """The measure's columns: now, and if it is compared, before and the change."""
    counts = measure.function in ("count", "errors", "unique", "sum")
    digits = _SUM_DIGITS if counts else _DIGITS
    columns = [_rounded(one, digits) for one in periods]
    if len(periods) > 1:
        now, before = periods
        with np.errstate(divide="ignore", invalid="ignore"):
            columns.append(_rounded((now - before) / np.abs(before), _CHANGE_DIGITS))
    return columns


def _rounded(values: Floats, digits: int) -> list[int | float | None]:
    """The values with so many digits; whole numbers as such, and None for none."""
    finite = np.isfinite(values)
    plain = np.where(finite, values, 0.5)
    whole = (plain == np.floor(plain)) & (np.abs(plain) < _WHOLE)
    if whole.all():
        return plain.astype(np.int64).tolist()  # type: ignore[no-any-return]
    return [
        int(value) if is_whole else float(f"{value:.{digits}g}") if is_finite else None
        for value, is_whole, is_finite in zip(
            values.tolist(), whole.tolist(), finite.tolist(), strict=True
        )
    ]
