"""What about a data set usually spoils a model.

The thresholds are conventions, not laws: they are meant to draw an agent's eye, so they rather
stay quiet than cry wolf.
"""

from typing import Final

import polars as pl

from mcp_hub.services.data.cells import counted, short
from mcp_hub.services.data.leakage import find_leaks
from mcp_hub.services.data.misreadings import find_misreadings
from mcp_hub.services.data.options import CsvOptions
from mcp_hub.services.data.views import ColumnKind, DataWarning, TargetProfile

FEW_ROWS: Final = 50
MISSING_RATE: Final = 0.3
IMBALANCE: Final = 10.0
"""The most frequent class has so many times the rows of the rarest."""


def find_warnings(
    frame: pl.DataFrame,
    kinds: dict[str, ColumnKind],
    distinct: dict[str, int],
    target: TargetProfile | None,
    csv: CsvOptions | None,
) -> list[DataWarning]:
    """The warnings, one a code; `distinct` counts each column's values that are not missing, and
    `csv` is how the file was read, unless it describes itself."""
    warnings = _column_warnings(frame, kinds)
    warnings += find_misreadings(frame, kinds, csv)
    warnings += _row_warnings(frame)
    if target is None:
        return warnings
    is_classification = target.suggested_type == "classification"
    if is_classification:
        warnings += _class_warnings(frame[target.column])
    leaks = find_leaks(frame, kinds, distinct, target.column, is_classification)
    if leaks:
        reasons = "; ".join(f"{short(name)!r} {why}" for name, why in list(leaks.items())[:5])
        message = f"Tells the target almost by itself: {reasons}. Known at prediction time?"
        warnings.insert(0, DataWarning.about("leakage", list(leaks), message))
    return warnings


def _column_warnings(frame: pl.DataFrame, kinds: dict[str, ColumnKind]) -> list[DataWarning]:
    names = frame.columns
    rates = {name: frame[name].null_count() / frame.height for name in names}
    missing = [name for name in names if rates[name] > MISSING_RATE]
    constant = [name for name in names if kinds[name] == "constant"]
    identifiers = [name for name in names if kinds[name] == "identifier"]
    infinite = [
        name
        for name in names
        if frame[name].dtype.is_float() and bool(frame[name].is_infinite().any())
    ]
    warnings = []
    if missing:
        worst = max(missing, key=rates.__getitem__)
        warnings.append(
            DataWarning.about(
                "missing",
                missing,
                f"Over {MISSING_RATE:.0%} of the values are missing, in {short(worst)!r} "
                f"{rates[worst]:.0%}.",
            )
        )
    if constant:
        warnings.append(
            DataWarning.about("constant", constant, "One value throughout, or none at all.")
        )
    if identifiers:
        message = "Names the row, or holds nested values: training leaves it out."
        warnings.append(DataWarning.about("identifier", identifiers, message))
    if infinite:
        warnings.append(
            DataWarning.about("infinite", infinite, "Holds infinite values; replace them.")
        )
    if twins := _equal_columns(frame, [name for name in names if kinds[name] != "constant"]):
        pairs = ", ".join(f"{short(b)!r} = {short(a)!r}" for a, b in twins[:5])
        message = f"Equal in every row: {pairs}. Keep one of each."
        warnings.append(
            DataWarning.about("duplicate_columns", [second for _, second in twins], message)
        )
    return warnings


def _row_warnings(frame: pl.DataFrame) -> list[DataWarning]:
    warnings = []
    if duplicates := count_duplicates(frame):
        message = (
            f"{duplicates} of {frame.height} rows repeat an earlier one; a held-out score is too "
            "good where copies are on both sides of the split."
        )
        warnings.append(DataWarning.about("duplicate_rows", [], message))
    if frame.height < FEW_ROWS:
        message = f"Only {frame.height} rows: a held-out score will depend on chance."
        warnings.append(DataWarning.about("few_rows", [], message))
    return warnings


def _class_warnings(target: pl.Series) -> list[DataWarning]:
    counts = counted(target)
    if counts.height < 2:
        return []
    warnings = []
    label, most = counts.row(0)
    rarest, least = counts.row(-1)
    if most > IMBALANCE * least:
        message = (
            f"{short(str(label))!r} has {most} rows, {short(str(rarest))!r} {least}: accuracy "
            "says little here; look at balanced accuracy or F1."
        )
        warnings.append(DataWarning.about("imbalance", [target.name], message))
    if rare := counts.filter(pl.col("rows") < 2).height:
        message = (
            f"{rare} of {counts.height} classes have a single row, such as {short(str(rarest))!r}: "
            "it cannot be both trained on and held out."
        )
        warnings.append(DataWarning.about("rare_class", [target.name], message))
    return warnings


def count_duplicates(frame: pl.DataFrame) -> int:
    """How many rows repeat an earlier one (by a 64-bit hash of each row)."""
    return frame.height - row_hashes(frame).n_unique()


def row_hashes(frame: pl.DataFrame) -> pl.Series:
    """A 64-bit hash of each row; equal rows have equal hashes."""
    return frame.hash_rows(seed=0)


def _equal_columns(frame: pl.DataFrame, names: list[str]) -> list[tuple[str, str]]:
    """The pairs (first, further) of columns that hold the same values."""
    if not names:
        return []
    sums = frame.select(pl.col(name).hash(seed=0).sum() for name in names).row(0)
    first: dict[tuple[str, object], str] = {}
    twins = []
    for name, total in zip(names, sums, strict=True):
        earlier = first.setdefault((str(frame[name].dtype), total), name)
        if earlier != name and frame[earlier].equals(frame[name]):
            twins.append((earlier, name))
    return twins
