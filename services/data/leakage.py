"""Columns that give the target away: usually written after the fact, and unknown beforehand."""

import math
from typing import Final

import polars as pl

from mcp_hub.services.data.views import ColumnKind

MIN_ROWS: Final = 10
CORRELATION: Final = 0.999
PURITY: Final = 0.999
MIN_ROWS_HELD_OUT: Final = 40
ROWS_PER_VALUE: Final = 5
MAX_MAJORITY: Final = 0.95

_ROWS: Final = 200_000


def find_leaks(
    frame: pl.DataFrame,
    kinds: dict[str, ColumnKind],
    distinct: dict[str, int],
    target: str,
    is_classification: bool,
) -> dict[str, str]:
    """The columns that tell the target by themselves → how.

    Looked for are equality, a one-to-one mapping between repeating values, a correlation above
    0.999 with a number, and values, or gaps, that each go with one class also on held-out rows.
    Of large data sets 200,000 rows are looked at.
    """
    frame = frame.filter(pl.col(target).is_not_null())
    frame = frame.gather_every(max(1, -(-frame.height // _ROWS)))
    if frame.height < MIN_ROWS or distinct[target] < 2:
        return {}
    leaks = {}
    for name in frame.columns:
        if name == target or kinds[name] == "constant" or frame.schema[name].is_nested():
            continue
        pair = pl.DataFrame({"value": frame[name], "target": frame[target]})
        repeats = kinds[name] != "text" and distinct[name] * ROWS_PER_VALUE <= frame.height
        reason = _leak(pair, repeats, is_classification)
        if reason is not None:
            leaks[name] = reason
    return leaks


def _leak(pair: pl.DataFrame, repeats: bool, is_classification: bool) -> str | None:
    value, target = pair["value"], pair["target"]
    if value.dtype == target.dtype and bool((value == target).all()) and not value.null_count():
        return "is equal to it"
    if _maps_one_to_one(pair.drop_nulls()):
        return "maps to it one to one"
    if value.dtype.is_numeric() and target.dtype.is_numeric():
        correlation = _correlation(pair)
        if abs(correlation) > CORRELATION:
            return f"correlates with it by {correlation:.4f}"
    if not is_classification:
        return None
    gaps = pair.with_columns(pl.col("value").is_null())
    if value.null_count() and _purity(gaps) >= PURITY:
        return "is missing for certain classes only"
    if repeats and _purity(pair) >= PURITY:
        return "has one class for each of its values, also on held-out rows"
    return None


def _maps_one_to_one(pair: pl.DataFrame) -> bool:
    values = pair["value"].n_unique()
    repeating = pair.height >= MIN_ROWS and values >= 2 and 2 * values <= pair.height
    return repeating and values == pair["target"].n_unique() == pair.n_unique()


def _correlation(pair: pl.DataFrame) -> float:
    """Pearson's correlation of the rows where both are finite; 0 where there is none."""
    both = pair.cast(pl.Float64).filter(pl.all_horizontal(pl.all().is_finite()))
    if both.height < MIN_ROWS:
        return 0.0
    found = both.select(pl.corr("value", "target")).item()
    return float(found) if found is not None and math.isfinite(found) else 0.0


def _purity(pair: pl.DataFrame) -> float:
    """How often the class that one half of the rows has most for a value is right in the other.

    0 where that would say nothing: few rows, or nearly all of one class.
    """
    classes = pair["target"].value_counts(name="rows")["rows"].to_list()
    if pair.height < MIN_ROWS_HELD_OUT or max(classes) > MAX_MAJORITY * pair.height:
        return 0.0
    # By a hash, because rows are often sorted, or alternate.
    half = pl.int_range(pl.len(), dtype=pl.UInt64).hash(seed=0) % 2
    counts = pair.group_by("value", "target", half=half).len()
    learnt = (
        counts.filter(pl.col("half") == 0)
        .sort(["len", "target"], descending=[True, False])
        .unique("value", keep="first", maintain_order=True)
    )
    held_out = counts.filter(pl.col("half") == 1)
    right = held_out.join(learnt, on=["value", "target"], how="semi", nulls_equal=True)
    return int(right["len"].sum()) / int(held_out["len"].sum())
