"""How far a column's distribution has moved from another data set's."""

import math
from typing import Final

import polars as pl

from mcp_hub.adapters.errors import InvalidArgument, NotFound, names_hint
from mcp_hub.services.data.cells import counted, rounded, short
from mcp_hub.services.data.dates import parse_datetimes
from mcp_hub.services.data.kinds import row_names
from mcp_hub.services.data.rules import Rule
from mcp_hub.services.data.views import RuleResult

MAX_BINS: Final = 10
ROWS_PER_BIN: Final = 20
"""Fewer rows a bin make the index large by chance alone."""

LEAST_EXPECTED: Final = 10
"""Values that are to be expected in fewer rows are one bin: each by itself says little but chance.
Of fewer rows than a hundred, a tenth is enough."""
CHANCE: Final = 4
"""In standard errors: by how much more the values never seen before must be than is expected."""

_COLUMNS_SHOWN: Final = 10
_MISSING: Final = "(missing)"
_OTHERS: Final = "(others)"
_NEW: Final = "(new)"


def drift_result(frame: pl.DataFrame, reference: pl.DataFrame, rule: Rule) -> RuleResult:
    """The stability index of the rule's column, or of each column that both frames have and that
    names the row in neither: those of new rows are other ones, whatever they are of.

    Raises:
        NotFound: the reference lacks the rule's column, or has none of the frame's.
        InvalidArgument: the types of the rule's column, or of all, differ.
    """
    if rule.column is not None and rule.column not in reference.columns:
        raise NotFound(
            f"{rule.drift_from} has no column {rule.column!r} to measure drift from.",
            names_hint(rule.column, reference.columns, "columns"),
        )
    names = [rule.column] if rule.column else [c for c in frame.columns if c in reference.columns]
    if not names:
        raise NotFound(
            f"No column is also in {rule.drift_from}.",
            names_hint("", reference.columns, f"columns of {rule.drift_from}"),
        )
    left_out = [] if rule.column else _row_names(frame, reference, names)
    names = [name for name in names if name not in left_out]
    found = {name: stability_index(reference[name], frame[name]) for name in names}
    indexes = {name: index for name, index in found.items() if index is not None}
    if not indexes:
        raise InvalidArgument(
            f"Drift of {names[0]!r} cannot be measured: it is {frame[names[0]].dtype} here and "
            f"{reference[names[0]].dtype} in {rule.drift_from}.",
            "Numbers compare with numbers, dates with dates, and texts with texts.",
        )
    shown = sorted(indexes.items(), key=lambda item: -item[1])[:_COLUMNS_SHOWN]
    return RuleResult(
        rule="drift",
        column=rule.column,
        passed=all(index <= rule.max_drift for index in indexes.values()),
        expected=rule.max_drift,
        actual={name: rounded(index) for name, index in shown},
        note=_note(len(indexes) - len(shown), left_out),
    )


def _row_names(frame: pl.DataFrame, reference: pl.DataFrame, names: list[str]) -> list[str]:
    """Those of `names` that name the row in a frame, unless all of them do."""
    of_either = {*row_names(frame), *row_names(reference)}
    found = [name for name in names if name in of_either]
    return found if len(found) < len(names) else []


def _note(hidden: int, left_out: list[str]) -> str | None:
    notes = []
    if hidden:
        notes.append(f"{hidden} further columns, of smaller indexes, are not shown.")
    if left_out:
        more = len(left_out) - _COLUMNS_SHOWN
        shown = ", ".join(map(short, left_out[:_COLUMNS_SHOWN]))
        notes.append(f"Left out as row names: {shown}{f' and {more} more' if more > 0 else ''}.")
    return " ".join(notes) or None


def stability_index(reference: pl.Series, actual: pl.Series) -> float | None:
    """The population stability index: sum of (p - q) ln(p / q) over the bins; 0 is no drift.

    Numbers and dates are binned by the reference's quantiles, other values by the reference's
    most frequent ones, rare ones together; missing values are a bin of their own, and so are
    values that the reference lacks, where there are more of them than further rows of the
    reference would bring. None where the types do not compare. See Siddiqi, Credit Risk
    Scorecards (2006), for its customary limits 0.1 and 0.25.
    """
    before, after = _measure(reference), _measure(actual)
    if before is None or after is None or before.dtype != after.dtype:
        return None
    bins = max(2, min(MAX_BINS, before.len() // ROWS_PER_BIN, after.len() // ROWS_PER_BIN))
    if before.dtype == pl.Float64:
        edges = _edges(before, bins)
        old, new = _shares(_binned(before, edges)), _shares(_binned(after, edges))
    else:
        counts = counted(before)
        frequent = _frequent(counts, before, after).head(bins)
        old, new = _shares(_named(before, frequent)), _shares(_named(after, frequent))
        unseen = _unseen(before, after, counts)
        if unseen > 0:
            new[_OTHERS] -= unseen
            new[_NEW] = unseen
    index = 0.0
    for key in old.keys() | new.keys():
        # An empty bin counts as half a row: what share it has is not known any better.
        p, q = max(new.get(key, 0.0), 0.5 / after.len()), max(old.get(key, 0.0), 0.5 / before.len())
        index += (p - q) * math.log(p / q)
    return index


def _measure(column: pl.Series) -> pl.Series | None:
    """A column as floats (numbers, dates) or strings (booleans, texts); None for nested ones."""
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        return None
    if column.dtype.is_numeric():
        return column.cast(pl.Float64)
    dates = parse_datetimes(column)
    if dates is not None:
        return dates.dt.epoch("us").cast(pl.Float64)
    return column.cast(pl.String)


def _edges(column: pl.Series, bins: int) -> list[float]:
    values = column.drop_nulls()
    quantiles = (values.quantile(step / bins) for step in range(1, bins))
    return sorted({float(edge) for edge in quantiles if edge is not None})


def _binned(column: pl.Series, edges: list[float]) -> pl.Series:
    # The bin of a value is the number of edges below it.
    found = pl.Series(edges, dtype=pl.Float64).search_sorted(column, side="left")
    binned = pl.select(
        pl.when(column.is_null()).then(pl.lit(_MISSING)).otherwise(found.cast(pl.String))
    )
    return binned.to_series()


def _named(column: pl.Series, frequent: pl.Series) -> pl.Series:
    named = pl.select(
        pl.when(column.is_null())
        .then(pl.lit(_MISSING))
        .when(column.is_in(frequent.implode()))
        .then(column)
        .otherwise(pl.lit(_OTHERS))
    )
    return named.to_series()


def _frequent(counts: pl.DataFrame, before: pl.Series, after: pl.Series) -> pl.Series:
    """The reference's values, the most frequent first, without the rare ones: those of which the
    smaller column would have too few rows if both had the same distribution."""
    both = counts.join(
        counted(after).rename({"rows": "others"}), on="value", how="left", maintain_order="left"
    )
    share = (pl.col("rows") + pl.col("others").fill_null(0)) / (before.len() + after.len())
    smaller = min(before.len(), after.len())
    least = min(LEAST_EXPECTED, smaller / MAX_BINS)
    return both.filter(share * smaller >= least)["value"]


def _unseen(before: pl.Series, after: pl.Series, counts: pl.DataFrame) -> float:
    """The share of values that the reference lacks, beyond what was to be expected of it.

    Expected is the share of the reference's values that appear once, by Good and Turing: all of
    them in a column of names, none in one of a few categories.
    """
    once, twice = (counts.filter(pl.col("rows") == rows).height for rows in (1, 2))
    expected = once / before.len()
    is_new = ~after.is_in(counts["value"].implode()) & after.is_not_null()
    beyond = int(is_new.sum()) / after.len() - expected
    chance = math.sqrt((once + 2 * twice) / before.len() ** 2 + expected / after.len())
    return beyond if beyond > CHANCE * chance else 0.0


def _shares(bins: pl.Series) -> dict[str, float]:
    counts = bins.rename("bin").value_counts(name="rows")
    return {key: rows / bins.len() for key, rows in counts.iter_rows()}
