"""Checking a frame against rules."""

import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from mcp_hub.adapters.errors import InvalidArgument, NotFound, names_hint
from mcp_hub.services.data.cells import cell, extremes, rounded, short
from mcp_hub.services.data.dates import parse_datetimes
from mcp_hub.services.data.drift import drift_result
from mcp_hub.services.data.rules import COLUMN_CHECKS, Rule
from mcp_hub.services.data.suspicions import row_hashes
from mcp_hub.services.data.views import DatasetValidation, RuleResult

MAX_CHARACTERS = 18_000
FAILING_ROWS = 10
_VALUES_SHOWN = 10


def validate_frame(
    frame: pl.DataFrame,
    dataset: str,
    rules: Sequence[Rule],
    references: Mapping[str, pl.DataFrame],
) -> DatasetValidation:
    """Every check of every rule; `references` holds the frames that drift is measured from.

    Raises:
        NotFound: a rule names a column that is not there.
        InvalidArgument: a check does not suit its column, or its pattern is no expression.
    """
    results: list[RuleResult] = []
    for rule in rules:
        if rule.column is not None and rule.column not in frame.columns:
            raise NotFound(
                f"{dataset} has no column {rule.column!r}.",
                names_hint(rule.column, frame.columns, "columns"),
            )
        if rule.column is not None:
            column = frame[rule.column]
            results += [_check(check, column, rule) for check in rule.checks(COLUMN_CHECKS)]
        if rule.min_rows is not None:
            results.append(_min_rows(frame, rule.min_rows))
        if rule.no_duplicates:
            results.append(_no_duplicates(frame))
        if rule.drift_from is not None:
            results.append(drift_result(frame, references[rule.drift_from], rule))
    passed = all(result.passed for result in results)
    shown = _fitting(sorted(results, key=lambda result: result.passed))
    return DatasetValidation(
        dataset=dataset,
        passed=passed,
        results=shown,
        omitted_results=len(results) - len(shown),
    )


def _fitting(results: list[RuleResult]) -> list[RuleResult]:
    size = 0
    for number, result in enumerate(results):
        size += len(result.model_dump_json(exclude_none=True))
        if number and size > MAX_CHARACTERS:
            return results[:number]
    return results


def _check(check: str, column: pl.Series, rule: Rule) -> RuleResult:
    failing, actual = _CHECKS[check](column, getattr(rule, check))
    expected = getattr(rule, check)
    failing = failing.fill_null(False)
    passed = not failing.any()
    if check == "max_null_rate":
        passed = column.null_count() <= expected * column.len()
        failing = failing & (not passed)
    return _result(check, column.name, passed, expected, actual, failing)


def _result(
    check: str, column: str | None, passed: bool, expected: Any, actual: Any, failing: pl.Series
) -> RuleResult:
    return RuleResult(
        rule=check,
        column=column,
        passed=passed,
        expected=expected,
        actual=actual,
        failing=int(failing.sum()),
        failing_rows=failing.arg_true().head(FAILING_ROWS).to_list(),
    )


def _type(column: pl.Series, wanted: str) -> tuple[pl.Series, Any]:
    failing = _TYPES[wanted](column) & column.is_not_null()
    found = str(column.dtype)
    if failing.any():
        found += f", such as {cell(column.filter(failing)[0])[0]}"
    return failing, found


def _no_number(column: pl.Series) -> pl.Series:
    if column.dtype.is_numeric():
        return _none(column)
    if column.dtype != pl.String:
        return _all(column)
    return column.str.strip_chars().cast(pl.Float64, strict=False).is_null()


def _no_integer(column: pl.Series) -> pl.Series:
    if column.dtype.is_integer():
        return _none(column)
    if column.dtype.is_float():
        return (column != column.round()) | ~column.is_finite()
    if column.dtype != pl.String:
        return _all(column)
    return ~column.str.contains(r"^\s*[-+]?\d+\s*$")


def _no_boolean(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        return _none(column)
    if column.dtype != pl.String:
        return _all(column)
    return ~column.str.contains(r"(?i)^\s*(true|false)\s*$")


def _no_string(column: pl.Series) -> pl.Series:
    return _none(column) if column.dtype == pl.String else _all(column)


def _no_datetime(column: pl.Series) -> pl.Series:
    if parse_datetimes(column) is not None:
        return _none(column)
    if column.dtype != pl.String:
        return _all(column)
    shaped = column.str.contains(r"^\s*\d{4}-\d{1,2}-\d{1,2}([T ]([01]?\d|2[0-3]):[0-5]\d.*)?\s*$")
    # The 30th of February has the shape of a day, and is none.
    day = column.str.extract(r"^\s*(\d{4}-\d{1,2}-\d{1,2})").str.to_date("%Y-%m-%d", strict=False)
    return ~shaped | day.is_null()


_TYPES: dict[str, Callable[[pl.Series], pl.Series]] = {
    "number": _no_number,
    "integer": _no_integer,
    "boolean": _no_boolean,
    "string": _no_string,
    "datetime": _no_datetime,
}


def _min(column: pl.Series, least: Any) -> tuple[pl.Series, Any]:
    values, bound = _comparable(column, least, "min")
    return values < bound, _shown(extremes(values)[0])


def _max(column: pl.Series, most: Any) -> tuple[pl.Series, Any]:
    values, bound = _comparable(column, most, "max")
    return values > bound, _shown(extremes(values)[1])


def _comparable(column: pl.Series, bound: Any, check: str) -> tuple[pl.Series, Any]:
    if column.dtype.is_numeric():
        if isinstance(bound, str):
            raise InvalidArgument(
                f"{check} of {column.name!r} is the text {bound!r}, but the column holds numbers.",
                "Write a number.",
            )
        return column, bound
    dates = parse_datetimes(column)
    if dates is None:
        raise InvalidArgument(
            f"{check} cannot be checked: {column.name!r} ({column.dtype}) holds neither numbers "
            "nor dates.",
            'Check its type first: {"column": …, "type": "number"}; for texts use allowed or '
            "pattern.",
        )
    day = parse_datetimes(pl.Series([str(bound)]))
    if day is None:
        raise InvalidArgument(
            f"{check} of {column.name!r} is {bound!r}, but the column holds dates.",
            "Write an ISO 8601 date, such as 2024-01-31 or 2024-01-31T12:00:00.",
        )
    return dates, day.item()


def _shown(value: Any) -> Any:
    return rounded(value) if isinstance(value, float) and isfinite(value) else cell(value)[0]


def _unique(column: pl.Series, _wanted: bool) -> tuple[pl.Series, Any]:
    distinct = column.drop_nulls().n_unique()
    return column.is_duplicated() & column.is_not_null(), f"{distinct} distinct values"


def _allowed(column: pl.Series, values: list[Any]) -> tuple[pl.Series, Any]:
    """`actual` names the values that are not allowed, or says that there are none."""
    dtype = _dtype_of(values)
    if _family(column.dtype) != _family(dtype):
        raise InvalidArgument(
            f"allowed does not suit {column.name!r}, which holds {column.dtype}.",
            "List values of the column's own type: all texts, all numbers, or true and false.",
        )
    if dtype is pl.Int128 and column.dtype.is_float():
        dtype = pl.Float64
    allowed = pl.Series(values, dtype=dtype, strict=False)
    failing = ~column.cast(dtype).is_in(allowed.implode()) & column.is_not_null()
    others = column.filter(failing).unique(maintain_order=True).head(_VALUES_SHOWN)
    return failing, [cell(value)[0] for value in others]


def _dtype_of(values: list[Any]) -> type[pl.DataType]:
    """The type that holds all of a rule's values exactly; Null for a mixture."""
    types = {type(value) for value in values}
    if types == {int} and all(abs(value) < 2**63 for value in values):
        return pl.Int128
    if types <= {int, float}:
        return pl.Float64
    return {frozenset({str}): pl.String, frozenset({bool}): pl.Boolean}.get(
        frozenset(types), pl.Null
    )


def _family(dtype: pl.DataType | type[pl.DataType]) -> str:
    return "number" if dtype.is_numeric() else str(dtype)


def _pattern(column: pl.Series, pattern: str) -> tuple[pl.Series, Any]:
    if column.dtype != pl.String:
        raise InvalidArgument(
            f"pattern is for texts, but {column.name!r} holds {column.dtype}.",
            "For numbers use min, max or allowed.",
        )
    try:
        failing = ~column.str.contains(f"^(?:{pattern})$")
    except PolarsError as error:
        found = re.search(r"^error: (.*)$", str(error), re.MULTILINE)
        raise InvalidArgument(
            f"The pattern {pattern!r} is not a regular expression"
            f"{': ' + found[1] if found else ''}.",
            "Look-around and back-references are not supported.",
        ) from error
    return failing, [short(value) for value in column.filter(failing).head(3)]


def _null_rate(column: pl.Series, _most: float) -> tuple[pl.Series, Any]:
    return column.is_null(), rounded(column.null_count() / column.len())


_CHECKS: dict[str, Callable[[pl.Series, Any], tuple[pl.Series, Any]]] = {
    "type": _type,
    "min": _min,
    "max": _max,
    "unique": _unique,
    "allowed": _allowed,
    "pattern": _pattern,
    "max_null_rate": _null_rate,
}


def _min_rows(frame: pl.DataFrame, least: int) -> RuleResult:
    nothing = pl.Series([], dtype=pl.Boolean)
    return _result("min_rows", None, frame.height >= least, least, frame.height, nothing)


def _no_duplicates(frame: pl.DataFrame) -> RuleResult:
    failing = ~row_hashes(frame).is_first_distinct()
    count = int(failing.sum())
    return _result("no_duplicates", None, not count, 0, count, failing)


def _none(column: pl.Series) -> pl.Series:
    return pl.repeat(False, column.len(), eager=True)


def _all(column: pl.Series) -> pl.Series:
    return pl.repeat(True, column.len(), eager=True)
