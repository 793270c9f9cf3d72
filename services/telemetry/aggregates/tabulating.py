"""The table of an aggregate from what was counted: its rows in order, a page of them, rounded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.pages import encode_cursor
from mcp_hub.services.telemetry.aggregates.asking import Buckets, Question
from mcp_hub.services.telemetry.aggregates.measures import Measure
from mcp_hub.services.telemetry.aggregates.tally import Groups, Tally
from mcp_hub.services.telemetry.storage.cells import Cells, Floats
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
    order, more = _page(groups, group, bucket, by_size, skipped, limit)
    columns = groups.values(group[order])
    if buckets.width is not None:
        columns.append(_times(buckets, bucket[order]))
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


def _page(
    groups: Groups, group: Cells, bucket: Cells, by_size: Floats, skipped: int, limit: int
) -> tuple[NDArray[np.intp], bool]:
    """Which rows are shown, in order, and whether more follow.

    By time first, then the largest; what is equal, by its text: the same way at each page.
    """
    last = skipped + limit
    order = np.lexsort((by_size, bucket))
    more = len(order) > last
    if more:
        # Those equal to the last one may belong before it.
        ends_at = order[last - 1]
        beyond = (bucket[order] == bucket[ends_at]) & (by_size[order] == by_size[ends_at])
        order = order[: max(last, int(np.flatnonzero(beyond)[-1]) + 1)]
    every, places = np.unique(group[order], return_inverse=True)
    texts = list(map(repr, zip(*groups.values(every), strict=True))) or [""] * len(every)
    ranks = np.empty(len(every), np.intp)
    ranks[sorted(range(len(every)), key=texts.__getitem__)] = np.arange(len(every))
    chosen = np.lexsort((ranks[places], by_size[order], bucket[order]))
    return order[chosen[skipped:last]], more


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
