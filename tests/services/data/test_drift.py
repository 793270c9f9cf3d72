import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.data.drift import drift_result, stability_index
from mcp_hub.services.data.rules import Rule
from mcp_hub.services.data.views import RuleResult

RNG = np.random.default_rng(0)


def index(reference: Any, actual: Any) -> float:
    found = stability_index(pl.Series(reference), pl.Series(actual))
    assert found is not None
    return found


def result(frame: dict[str, Any], reference: dict[str, Any], **rule: Any) -> RuleResult:
    return drift_result(
        pl.DataFrame(frame), pl.DataFrame(reference), Rule(drift_from="d:1", **rule)
    )


def test_the_definition() -> None:
    expected = (0.9 - 0.5) * math.log(0.9 / 0.5) + (0.1 - 0.5) * math.log(0.1 / 0.5)
    found = index(["a", "b"] * 50, ["a"] * 90 + ["b"] * 10)
    assert math.isclose(found, expected)
    assert math.isclose(index(["a"] * 90 + ["b"] * 10, ["a", "b"] * 50), expected)


def test_the_same_distribution_has_no_drift() -> None:
    values = RNG.normal(size=2000)
    assert index(values, values) == 0
    assert index(values, RNG.normal(size=2000)) < 0.05
    assert index(values[:150], RNG.normal(size=150)) < 0.2  # few rows: fewer bins
    assert index(["x"] * 50, ["x"] * 9) == 0


def test_a_shifted_distribution_drifts() -> None:
    values = RNG.normal(size=2000)
    assert 0.1 < index(values, values + 0.5) < 0.5
    assert index(values, values + 3) > 1
    assert index([1.0] * 100, [2.0] * 100) > 1
    assert index([True, False] * 100, [True] * 200) > 1


def test_missing_values_are_a_bin() -> None:
    values = [float(i) for i in range(200)]
    assert index(values, [v if i % 2 else None for i, v in enumerate(values)]) > 0.25
    assert index([None, "a"] * 50, ["a"] * 100) > 0.25


def test_a_value_never_seen_before_is_more_than_a_rare_one() -> None:
    # 40 categories: with bins for ten of them, a new one would hide among the thirty others.
    known = [f"c{i % 40:02}" for i in range(4000)]
    assert index(known, known[:3600] + ["new"] * 400) > 0.5
    assert index(known, known[:3600] + ["c39"] * 400) < 0.1
    assert index(known, [*known[:3999], "new"]) < 0.02
    # Names are always new: that is no drift.
    assert index([f"n{i}" for i in range(1000)], [f"n{i}" for i in range(5000, 6000)]) < 0.05
    assert index([f"n{i}" for i in range(1000)], [f"n{i}" for i in range(1000)]) == 0
    # Of a long tail, about as many new values as its rare ones let expect.
    tail = RNG.zipf(1.7, size=(2, 3000)).astype(str)
    assert index(tail[0], tail[1]) < 0.1


def test_dates_compare_with_dates_as_text() -> None:
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(200)]
    assert index(days, [str(day) for day in days]) == 0
    assert index(days, [day + timedelta(days=365) for day in days]) > 1


def test_infinities_are_the_last_bins() -> None:
    assert math.isfinite(index([1.0, 2.0, math.inf] * 50, [-math.inf, 1.0, 2.0] * 50))


def test_a_column_or_every_column() -> None:
    reference = {"x": range(9, 209), "s": ["a", "b"] * 100, "gone": [1] * 200, "l": [[1]] * 200}
    frame = {"x": range(500, 700), "s": ["b", "a"] * 100, "new": [1] * 200, "l": [[1]] * 200}
    found = result(frame, reference)
    assert found.column is None
    assert not found.passed
    assert list(found.actual) == ["x", "s"]
    assert found.actual["s"] == 0
    assert found.note is None
    only = result(frame, reference, column="s")
    assert (only.passed, only.column, only.actual) == (True, "s", {"s": 0.0})
    assert result(frame, reference, max_drift=100).passed


def test_row_names_are_left_out_of_whole_sets_alone() -> None:
    def batch(start: int) -> dict[str, Any]:
        rows = range(start, start + 200)
        return {"id": rows, "code": [f"N{i:06}A" for i in rows], "x": [i % 7 for i in rows]}

    found = result(batch(1400), batch(0))
    assert (found.passed, found.actual) == (True, {"x": 0.0})
    assert found.note == "Left out as row names: id, code."
    assert not result(batch(1400), batch(0), column="id").passed
    alone = {"id": range(200)}
    assert result({"id": range(200, 400)}, alone).actual["id"] > 1


def test_columns_that_are_not_shown_are_counted() -> None:
    rows = {f"c{column}": [i % (column + 2) for i in range(200)] for column in range(14)}
    found = result(rows, rows)
    assert len(found.actual) == 10
    assert found.note == "4 further columns, of smaller indexes, are not shown."


@pytest.mark.parametrize("levels", [5, 40, 400, 3000])
@pytest.mark.parametrize(("before", "after"), [(200, 200), (400, 400), (1000, 200), (1000, 1000)])
@pytest.mark.parametrize("is_even", [True, False])
def test_two_draws_of_the_same_categories_do_not_drift(
    levels: int, before: int, after: int, is_even: bool
) -> None:
    weights = np.ones(levels) if is_even else 1 / np.arange(1, levels + 1)
    generator = np.random.default_rng(levels + before + after)

    def draw(rows: int) -> Any:
        return generator.choice(levels, rows, p=weights / weights.sum()).astype(str)

    assert max(index(draw(before), draw(after)) for _ in range(20)) < 0.2


def test_drift_of_many_categories_is_seen_all_the_same() -> None:
    generator = np.random.default_rng(0)
    known = generator.integers(400, size=1000).astype(str)
    again = generator.integers(400, size=1000).astype(str)
    assert index(known, np.where(np.arange(1000) < 300, "7", again)) > 0.25
    others = np.where(np.arange(1000) < 300, np.char.add("new", again), again)
    assert index(known, others) > 0.25
    few = generator.integers(40, size=1000).astype(str)
    assert index(few, generator.integers(20, size=1000).astype(str)) > 0.25
    assert index(["a"] * 9 + ["b"], ["b"] * 10) > 0.25


def test_a_column_named_as_a_count_is() -> None:
    names = {"rows": ["a", "b"] * 100, "value": ["c", "d"] * 100}
    assert result(names, names).actual == {"rows": 0.0, "value": 0.0}


def test_what_cannot_be_compared() -> None:
    with pytest.raises(NotFound, match="no column 'y'"):
        result({"y": [1]}, {"x": [1]}, column="y")
    with pytest.raises(NotFound, match="No column is also in d:1") as error:
        result({"y": [1]}, {"x": [1]})
    assert "x" in str(error.value.hint)
    with pytest.raises(InvalidArgument, match="it is Int64 here and String in d:1"):
        result({"x": [1]}, {"x": ["a"]})
