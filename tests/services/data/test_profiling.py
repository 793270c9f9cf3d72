import json
import math
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import palmerpenguins
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.data.profiling import profile_frame
from mcp_hub.services.data.reading import read_frame
from mcp_hub.services.data.views import ColumnProfile, DatasetProfile

PENGUINS = Path(palmerpenguins.__file__).parent / "data" / "penguins.csv"
ROWS = 400
RNG = np.random.default_rng(0)


def profile(columns: dict[str, Any], target: str | None = None) -> DatasetProfile:
    return profile_frame(pl.DataFrame(columns), "d:1", target)


def column(columns: dict[str, Any], name: str) -> ColumnProfile:
    return next(c for c in profile(columns).columns if c.name == name)


def codes(found: DatasetProfile) -> dict[str, list[str]]:
    return {warning.code: warning.columns for warning in found.warnings}


def noise() -> dict[str, Any]:
    return {"a": RNG.normal(size=ROWS), "b": RNG.normal(size=ROWS)}


def test_numbers_have_statistics_of_six_digits() -> None:
    found = column({"x": [1.23456789, 2.0, None, 4.0], "y": [1, 2, 3, 4]}, "x")
    assert found.kind == "number"
    assert (found.missing, found.missing_rate, found.distinct) == (1, 0.25, 3)
    assert (found.mean, found.min, found.median, found.max) == (2.41152, 1.23457, 2.0, 4.0)
    assert (found.p25, found.p75) == (1.61728, 3.0)
    assert found.std == 1.42791
    assert found.top is None


def test_a_column_may_be_named_rows() -> None:
    found = profile({"rows": ["a", "a", "b", "?"] * 20, "x": range(80)}, "rows")
    assert found.target is not None
    assert found.target.distribution == {"a": 40, "?": 20, "b": 20}


def test_statistics_are_those_of_numpy() -> None:
    values = RNG.normal(size=1001)
    found = column({"x": values}, "x")
    assert math.isclose(found.mean or 0, values.mean(), rel_tol=1e-5)
    assert math.isclose(found.std or 0, values.std(ddof=1), rel_tol=1e-5)
    assert math.isclose(found.p25 or 0, np.quantile(values, 0.25), rel_tol=1e-5)


def test_whole_numbers_keep_their_extremes() -> None:
    found = column({"x": [1_234_567, 7_654_321], "y": [1, 2]}, "x")
    assert json.loads(found.model_dump_json(include={"min", "max"})) == {
        "min": 1_234_567,
        "max": 7_654_321,
    }


def test_infinities_stay_out_of_the_statistics_and_are_warned_of() -> None:
    columns = {"x": [1.0, math.inf, 3.0, -math.inf], "y": [1, 2, 3, 4]}
    found = column(columns, "x")
    assert (found.mean, found.min, found.max) == (2.0, 1.0, 3.0)
    assert codes(profile(columns))["infinite"] == ["x"]
    only = column({"x": [math.inf, -math.inf], "y": [1, 2]}, "x")
    assert (only.mean, only.min, only.std) == (None, None, None)


def test_categories_have_their_most_frequent_values() -> None:
    values = ["b"] * 5 + ["a"] * 5 + ["c"] * 3 + ["d", "e", "f"] + [None]
    found = column({"x": values}, "x")
    assert found.top == {"a": 5, "b": 5, "c": 3, "d": 1, "e": 1}
    assert list(found.top) == ["a", "b", "c", "d", "e"]
    assert column({"x": [True, False, True]}, "x").top == {"true": 2, "false": 1}
    assert column({"x": ["only"] * 3}, "x").top == {"only": 3}
    assert column({"x": [None, None], "y": [1, 2]}, "x").top is None


def test_long_values_are_cut() -> None:
    found = column({"x": ["y" * 500, "z"] * 10}, "x")
    assert found.top is not None
    assert max(map(len, found.top)) == 80


def test_texts_and_dates() -> None:
    texts = [f"some words and number {i}" for i in range(30)]
    found = column({"t": texts, "y": [1, 2, 3] * 10}, "t")
    assert (found.kind, found.mean_length, found.top) == ("text", 23.6667, None)
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(30)]
    assert column({"d": days}, "d").min == "2024-01-01"
    assert column({"d": [f"{day}T12:30:00" for day in days]}, "d").max == "2024-01-30T12:30:00"


def test_at_most_sixty_columns_and_the_target_among_them() -> None:
    columns = {f"c{i}": [i, i + 1, i + 5] for i in range(100)}
    found = profile(columns, "c99")
    assert len(found.columns) == 60
    assert found.omitted_columns == 40
    assert found.columns[0].name == "c99"
    assert found.columns[1].name == "c0"


def test_wide_profiles_stay_within_what_an_agent_reads() -> None:
    columns = {f"{'n' * 200}{i}": [f"{j}{'v' * 100}" for j in range(5)] * 4 for i in range(300)}
    found = profile(columns)
    assert len(found.model_dump_json(exclude_none=True)) < 25_000
    assert found.omitted_columns == 300 - len(found.columns) > 240


def test_a_target_of_classes() -> None:
    found = profile({**noise(), "y": ["no"] * 300 + ["yes"] * 99 + [None]}, "y").target
    assert found is not None
    assert found.suggested_type == "classification"
    assert found.distribution == {"no": 300, "yes": 99}
    assert found.note == "1 rows have no target and cannot be trained on."


def test_a_target_of_amounts() -> None:
    found = profile({**noise(), "y": RNG.normal(size=ROWS)}, "y").target
    assert found is not None
    assert found.suggested_type == "regression"
    assert set(found.distribution) == {"mean", "std", "min", "p25", "median", "p75", "max"}


@pytest.mark.parametrize(
    ("values", "suggested"),
    [
        ([0, 1], "classification"),
        ([0.0, 1.0], "classification"),
        ([0, 1, 2], "classification"),
        (list(range(10)), "classification"),
        ([True, False], "classification"),
        (["x", "y"], "classification"),
        (list(range(100)), "regression"),
        ([0.5, 1.5], "regression"),
    ],
)
def test_the_job_type_that_suits_a_target(values: list[Any], suggested: str) -> None:
    target = (values * ROWS)[:ROWS]
    found = profile({**noise(), "y": target}, "y").target
    assert found is not None
    assert found.suggested_type == suggested


def test_a_few_whole_numbers_in_few_rows_are_amounts() -> None:
    found = profile({"x": [1, 2, 3, 4, 5], "y": [3, 5, 7, 9, 11]}, "y").target
    assert found is not None
    assert found.suggested_type == "regression"


def test_many_classes_are_counted() -> None:
    found = profile({**noise(), "y": [f"class {i % 50}" for i in range(ROWS)]}, "y").target
    assert found is not None
    assert len(found.distribution) == 20
    assert found.note == "50 classes; the 20 most frequent are shown."


def test_one_class_says_so() -> None:
    found = profile({**noise(), "y": ["a"] * ROWS}, "y").target
    assert found is not None
    assert "only one class" in str(found.note)


def test_a_target_that_cannot_be() -> None:
    with pytest.raises(NotFound, match="no column 'z'") as error:
        profile({"x": [1, 2], "y": [3, 4]}, "z")
    assert "Existing columns: x, y." in str(error.value.hint)
    with pytest.raises(InvalidArgument, match="cannot be a target"):
        profile({"x": [1, 2], "y": [[3], [4]]}, "y")


def test_real_data_give_no_false_alarm() -> None:
    for load, kind in (
        (load_iris, "classification"),
        (load_wine, "classification"),
        (load_breast_cancer, "classification"),
        (load_diabetes, "regression"),
    ):
        bunch = load()
        columns = {str(name): bunch.data[:, i] for i, name in enumerate(bunch.feature_names)}
        found = profile({**columns, "target": bunch.target}, "target")
        assert found.target is not None
        assert found.target.suggested_type == kind
        assert set(codes(found)) <= {"duplicate_rows"}
    penguins = profile_frame(read_frame(PENGUINS, "csv"), "penguins:1", "species")
    assert penguins.warnings == []


def test_warnings_about_columns() -> None:
    texts = [f"${i % 9 + 1},000" for i in range(ROWS)]
    found = profile(
        {
            **noise(),
            "holes": [1.0, None, None, 2.0] * 100,
            "same": ["x"] * ROWS,
            "none": [None] * ROWS,
            "key": [f"k{i}" for i in range(ROWS)],
            "nested": [[1], [2]] * 200,
            "price": texts,
            "price again": texts,
        }
    )
    assert codes(found) == {
        "missing": ["holes", "none"],
        "constant": ["same", "none"],
        "identifier": ["key", "nested"],
        "numbers_as_text": ["price", "price again"],
        "duplicate_columns": ["price again"],
    }


def test_warnings_name_twenty_columns_and_count_the_rest() -> None:
    found = profile({**noise(), **{f"same{i}": [1] * ROWS for i in range(30)}})
    warning = next(w for w in found.warnings if w.code == "constant")
    assert len(warning.columns) == 20
    assert "30 columns, of which 20 are named" in warning.message


def test_warnings_about_rows() -> None:
    found = profile({"x": [1, 2, 2, 2], "y": ["a", "b", "b", "c"]})
    messages = {warning.code: warning.message for warning in found.warnings}
    assert messages["duplicate_rows"].startswith("1 of 4 rows repeat")
    assert messages["few_rows"].startswith("Only 4 rows")


def test_warnings_about_classes() -> None:
    found = profile({**noise(), "y": ["a"] * 390 + ["b"] * 9 + ["c"]}, "y")
    assert codes(found) == {"imbalance": ["y"], "rare_class": ["y"]}
    assert "'c': it cannot be both" in found.warnings[-1].message


def leaks(**columns: Any) -> dict[str, str]:
    found = profile({**noise(), **columns}, "y")
    message = next((w.message for w in found.warnings if w.code == "leakage"), "")
    return dict.fromkeys(codes(found).get("leakage", []), message)


def test_leaks_of_classes() -> None:
    classes = [str(c) for c in RNG.choice(["a", "b", "c"], ROWS)]
    assert leaks(y=classes) == {}
    assert "is equal to it" in leaks(copy=classes, y=classes)["copy"]
    coded = [{"a": 7, "b": 8, "c": 9}[c] for c in classes]
    assert "one to one" in leaks(coded=coded, y=classes)["coded"]
    detail = [f"{c}{i % 4}" for i, c in enumerate(classes)]
    assert "one class for each of its values" in leaks(detail=detail, y=classes)["detail"]
    closed = ["2024-01-01" if c == "a" else None for c in classes]
    binary = ["yes" if c == "a" else "no" for c in classes]
    assert "missing for certain classes" in leaks(closed=closed, y=binary)["closed"]
    helpful = [c if i % 10 else "b" for i, c in enumerate(classes)]
    assert leaks(helpful=helpful, y=classes) == {}


def test_leaks_of_amounts() -> None:
    amounts = RNG.normal(size=ROWS)
    assert leaks(y=amounts) == {}
    assert "correlates with it by 1.0000" in leaks(cents=amounts * 100 + 3, y=amounts)["cents"]
    assert "correlates with it by -1.0000" in leaks(minus=-amounts, y=amounts)["minus"]
    helpful = amounts + RNG.normal(size=ROWS) * 0.3
    assert leaks(helpful=helpful, y=amounts) == {}


def test_unique_columns_do_not_map_one_to_one() -> None:
    assert leaks(x=RNG.normal(size=ROWS), y=RNG.normal(size=ROWS)) == {}


def test_nested_values_and_bytes_are_profiled() -> None:
    found = profile(
        {
            **noise(),
            "list": [[1, None], [2]] * 200,
            "struct": [{"a": 1}, {"a": None}] * 200,
            "bytes": [b"x", b"y"] * 200,
            "y": ["a", "b"] * 200,
        },
        "y",
    )
    kinds = {column.name: column.kind for column in found.columns}
    assert kinds["list"] == kinds["struct"] == kinds["bytes"] == "identifier"


def test_any_profile_is_json() -> None:
    found = profile({"x": [math.nan, math.inf], "y": [None, None], "z": ["a", "😀"]})
    json.loads(found.model_dump_json(), parse_constant=lambda name: pytest.fail(name))
