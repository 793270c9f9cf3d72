"""What a data set holds, column by column, and how a target is distributed."""

from typing import Any, Literal

import polars as pl

from mcp_hub.adapters.errors import InvalidArgument, NotFound, names_hint
from mcp_hub.services.data.cells import counted, extremes, rounded, short
from mcp_hub.services.data.dates import parse_datetimes
from mcp_hub.services.data.kinds import count_distinct, infer_kinds, is_opaque
from mcp_hub.services.data.options import CsvOptions
from mcp_hub.services.data.suspicions import find_warnings
from mcp_hub.services.data.views import ColumnKind, ColumnProfile, DatasetProfile, TargetProfile

MAX_COLUMNS = 60
MAX_CHARACTERS = 18_000
MAX_CLASSES = 20
TOP_VALUES = 5

JobType = Literal["classification", "regression"]

_MIDNIGHT = "T00:00:00"
_QUANTILES = {"p25": 0.25, "median": 0.5, "p75": 0.75}


def profile_frame(
    frame: pl.DataFrame,
    dataset: str,
    target: str | None = None,
    csv: CsvOptions | None = None,
) -> DatasetProfile:
    """Statistics over all rows: of the target's column and then of as many as 60, in their order,
    as fit about 18,000 characters; warnings about all columns. `csv` is how the file was read,
    unless it describes itself.

    Raises:
        NotFound: `target` is no column.
        InvalidArgument: `target` holds nested values or bytes.
    """
    if target is not None:
        _check_target(frame, dataset, target)
    distinct = count_distinct(frame)
    kinds = infer_kinds(frame, target, distinct)
    columns = _profiles(frame, kinds, distinct, target)
    about_target = None
    if target is not None:
        about_target = _target_profile(frame[target], kinds[target], distinct[target])
    return DatasetProfile(
        dataset=dataset,
        rows=frame.height,
        columns=columns,
        omitted_columns=frame.width - len(columns),
        target=about_target,
        warnings=find_warnings(frame, kinds, distinct, about_target, csv),
    )


def _check_target(frame: pl.DataFrame, dataset: str, target: str) -> None:
    if target not in frame.columns:
        raise NotFound(
            f"{dataset} has no column {target!r}.", names_hint(target, frame.columns, "columns")
        )
    if is_opaque(frame[target].dtype):
        raise InvalidArgument(
            f"{target!r} holds {frame[target].dtype} and cannot be a target.",
            "Choose a column of numbers, texts or booleans.",
        )


def _profiles(
    frame: pl.DataFrame, kinds: dict[str, ColumnKind], distinct: dict[str, int], target: str | None
) -> list[ColumnProfile]:
    # The target comes first, so that it is never left out.
    order = [target] if target else []
    order += [name for name in frame.columns if name != target]
    size = 0
    profiles: list[ColumnProfile] = []
    for name in order[:MAX_COLUMNS]:
        profile = _profile(frame[name], kinds[name], distinct[name])
        size += len(profile.model_dump_json(exclude_none=True))
        if profiles and size > MAX_CHARACTERS:
            break
        profiles.append(profile)
    return profiles


def _profile(column: pl.Series, kind: ColumnKind, distinct: int) -> ColumnProfile:
    missing = column.null_count()
    facts: dict[str, Any] = {}
    if kind == "number":
        facts = _number_facts(column)
    elif kind == "datetime":
        dates = parse_datetimes(column)
        assert dates is not None
        low, high = extremes(dates)
        facts = {"min": low.removesuffix(_MIDNIGHT), "max": high.removesuffix(_MIDNIGHT)}
    elif kind == "text":
        facts = {"mean_length": rounded(_float(column.str.len_chars().mean()))}
    if kind in ("category", "boolean", "constant") and distinct:
        facts["top"] = dict(_most_frequent(column, TOP_VALUES))
    return ColumnProfile(
        name=column.name,
        dtype=str(column.dtype),
        kind=kind,
        missing=missing,
        missing_rate=rounded(missing / column.len()) or 0.0,
        distinct=distinct,
        **facts,
    )


def _number_facts(column: pl.Series) -> dict[str, Any]:
    """Statistics of the finite values; of whole numbers the extremes are exact."""
    if column.dtype.is_float():
        column = column.filter(column.is_finite())
    column = column.sort()  # once, instead of in each quantile
    facts: dict[str, Any] = {
        "mean": rounded(_float(column.mean())),
        "std": rounded(_float(column.std())),
    }
    low, high = extremes(column)
    is_float = column.dtype.is_float()
    facts |= {"min": rounded(low) if is_float else low, "max": rounded(high) if is_float else high}
    for name, share in _QUANTILES.items():
        facts[name] = rounded(_float(column.quantile(share, interpolation="linear")))
    return facts


def _most_frequent(column: pl.Series, count: int) -> list[tuple[str, int]]:
    return [(_label(value), rows) for value, rows in counted(column).head(count).iter_rows()]


def _label(value: Any) -> str:
    """A value as the key of a JSON object; true and false as JSON writes them."""
    return short(str(value).lower() if isinstance(value, bool) else str(value))


def _suggested_type(column: pl.Series, kind: ColumnKind, distinct: int) -> JobType:
    """Regression for numbers, unless they are few whole ones that look like class numbers."""
    if kind != "number":
        return "classification"
    values = column.drop_nulls()
    if column.dtype.is_float() and not (values.is_finite() & (values == values.round())).all():
        return "regression"
    is_few = distinct == 2 or (distinct <= MAX_CLASSES and 5 * distinct <= values.len())
    return "classification" if is_few else "regression"


def _target_profile(column: pl.Series, kind: ColumnKind, distinct: int) -> TargetProfile:
    job_type = _suggested_type(column, kind, distinct)
    notes = []
    if missing := column.null_count():
        notes.append(f"{missing} rows have no target and cannot be trained on.")
    if job_type == "regression":
        facts = _number_facts(column)
        order = ("mean", "std", "min", "p25", "median", "p75", "max")
        distribution = {name: value for name in order if (value := facts[name]) is not None}
    else:
        shown = _most_frequent(column, MAX_CLASSES)
        distribution = dict(shown)
        if distinct > len(shown):
            notes.append(f"{distinct} classes; the {len(shown)} most frequent are shown.")
        if kind == "number" and distinct > 2:
            notes.append(
                "Few whole numbers, taken for classes; if they are amounts, train regression."
            )
        if kind in ("text", "datetime", "identifier"):
            notes.append(f"The column is {kind}, which is seldom a class.")
        if distinct < 2:
            notes.append("There is only one class; nothing can be learnt.")
    return TargetProfile(
        column=column.name,
        suggested_type=job_type,
        distribution=distribution,
        note=" ".join(notes) or None,
    )


def _float(value: Any) -> float | None:
    return float(value) if value is not None else None
