from datetime import date
from typing import Any

import polars as pl
import pytest

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.data.rules import Rule, parse_rules
from mcp_hub.services.data.validation import validate_frame
from mcp_hub.services.data.views import DatasetValidation, RuleResult


def validate(columns: dict[str, Any], *rules: dict[str, Any]) -> DatasetValidation:
    return validate_frame(pl.DataFrame(columns, strict=False), "d:1", parse_rules(rules), {})


def check(values: list[Any], **rule: Any) -> RuleResult:
    """The one result of a rule about a column of `values`."""
    (result,) = validate({"x": values}, {"column": "x", **rule}).results
    return result


def failing(values: list[Any], **rule: Any) -> list[int]:
    result = check(values, **rule)
    assert result.passed == (not result.failing_rows)
    return result.failing_rows


@pytest.mark.parametrize(
    ("values", "type", "rows"),
    [
        ([1, 2.5, None], "number", []),
        (["1", " 2.5 ", None, "x", "1e3"], "number", [3]),
        ([True], "number", [0]),
        ([1, 2, None], "integer", []),
        ([1.0, 2.5, float("inf")], "integer", [1, 2]),
        (["1", "+2", "2.0", "x"], "integer", [2, 3]),
        ([True, None], "boolean", []),
        (["true", "FALSE", "yes"], "boolean", [2]),
        ([0, 1], "boolean", [0, 1]),
        (["x", None], "string", []),
        ([1, None], "string", [0]),
        ([date(2024, 1, 1)], "datetime", []),
        (["31.12.2024", "01.01.2024"], "datetime", []),
        (["2024-01-01", "soon", "2024-01-01 10:00"], "datetime", [1]),
        (["2024-02-29", "2023-02-29", "2024-1-5", "2024-01-01T25:00", "x"], "datetime", [1, 3, 4]),
        ([20240101], "datetime", [0]),
    ],
)
def test_types(values: list[Any], type: str, rows: list[int]) -> None:
    assert failing(values, type=type) == rows


def test_a_wrong_type_shows_a_value() -> None:
    assert check(["1", "$2", "x"], type="number").actual == "String, such as $2"
    assert check(["1"], type="number").actual == "String"


def test_ranges() -> None:
    assert failing([1, 5, None, 9], min=5) == [0]
    assert failing([1.5, 5.0, 9.5], max=9) == [2]
    result = check([1, 5, 9], max=6.5)
    assert (result.expected, result.actual, result.failing) == (6.5, 9, 1)
    assert check([1.0, float("inf")], max=5).actual == "inf"


def test_ranges_of_dates() -> None:
    days = ["2024-01-01", "2024-06-01", None]
    assert failing(days, min="2024-02-01") == [0]
    assert failing([date(2024, 1, 1), date(2024, 6, 1)], max="2024-01-01T12:00:00") == [1]
    assert check(days, max="2024-02-01").actual == "2024-06-01T00:00:00"


def test_unique_allowed_and_pattern() -> None:
    assert failing(["a", "b", "a", None, None], unique=True) == [0, 2]
    assert failing(["a", "b", "c", None], allowed=["a", "b"]) == [2]
    assert failing([1, 2, 3], allowed=[1, 2.0]) == [2]
    assert failing([1.0, 2.5], allowed=[1]) == [1]
    assert failing([2**62, 2**62 + 1], allowed=[2**62]) == [1]
    assert failing([1, 2], allowed=[2, 10**30]) == [0]
    assert failing([True, False], allowed=[True]) == [1]
    assert check(["a", "x", "y", "x"], allowed=["a"]).actual == ["x", "y"]
    assert failing(["A1", "B22", "b3", None], pattern="[A-Z][0-9]+") == [2]
    assert failing(["ab", "a"], pattern="a|b") == [0]
    assert failing(["größe", "x"], pattern=r"\w{5}") == [1]


def test_null_rates_and_rows() -> None:
    result = check([1, None, None, 4], max_null_rate=0.25)
    assert (result.passed, result.actual, result.failing_rows) == (False, 0.5, [1, 2])
    result = check([1, None], max_null_rate=0.5)
    assert (result.passed, result.failing, result.failing_rows) == (True, 0, [])
    found = validate({"x": [1, 1, 2]}, {"min_rows": 5, "no_duplicates": True})
    assert not found.passed
    assert [(r.rule, r.expected, r.actual, r.failing_rows) for r in found.results] == [
        ("min_rows", 5, 3, []),
        ("no_duplicates", 0, 1, [1]),
    ]


def test_failed_checks_come_first_and_ten_rows_are_named() -> None:
    found = validate(
        {"x": range(100), "y": range(100)},
        {"column": "x", "min": 0, "max": 49},
        {"column": "y", "type": "integer"},
    )
    assert [(r.column, r.rule, r.passed) for r in found.results] == [
        ("x", "max", False),
        ("x", "min", True),
        ("y", "type", True),
    ]
    assert found.results[0].failing == 50
    assert found.results[0].failing_rows == list(range(50, 60))


def test_all_passed() -> None:
    found = validate({"x": [1, 2]}, {"column": "x", "type": "integer", "min": 0, "unique": True})
    assert found.passed
    assert len(found.results) == 3


def test_many_results_are_cut_and_failures_kept() -> None:
    columns = {f"{'c' * 200}{i}": [i] for i in range(150)}
    rules = [{"column": name, "min": 149} for name in columns]
    found = validate(columns, *rules)
    assert len(found.model_dump_json()) < 25_000
    assert found.omitted_results == 150 - len(found.results)
    assert not any(result.passed for result in found.results)


@pytest.mark.parametrize(
    ("rule", "message", "hint"),
    [
        ({"colum": "x"}, "key of rules\\[0\\] 'colum'", "Did you mean 'column'?"),
        ({"column": "x", "maximum": 3}, "'maximum'", "Did you mean 'max'?"),
        ({"column": "x", "nullable": True}, "'nullable'", "There are: column, type, min"),
        ({"column": "x", "type": "int"}, "'type' is not valid", "type"),
        ({"column": "x", "max_null_rate": 2}, "'max_null_rate'", "Share"),
        ({"column": "x", "unique": False}, "'unique'", "twice"),
        ({"column": "x", "allowed": []}, "'allowed'", "one of these"),
        ({"column": "x"}, "rules\\[0\\] checks nothing", "min_rows"),
        ({}, "checks nothing", "drift_from"),
        ({"min": 3}, "checks min of no column", "column"),
        ({"column": "x", "min_rows": 3}, "min_rows is about all rows", "without column"),
    ],
)
def test_rules_that_say_nothing_sensible(rule: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as error:
        parse_rules([rule])
    assert hint in str(error.value.hint)


def test_the_number_of_rules() -> None:
    for rules in ([], [{"min_rows": 1}] * 201):
        with pytest.raises(InvalidArgument, match="give 1 to 200"):
            parse_rules(rules)
    assert parse_rules([Rule(min_rows=1)]) == [Rule(min_rows=1)]


@pytest.mark.parametrize(
    ("values", "rule", "message"),
    [
        (["a", "b"], {"min": 3}, "holds neither numbers nor dates"),
        ([[1]], {"min": 3}, "holds neither numbers nor dates"),
        ([1, 2], {"min": "3"}, "the column holds numbers"),
        (["2024-01-01"], {"max": 5}, "the column holds dates"),
        (["2024-01-01"], {"max": "tomorrow"}, "the column holds dates"),
        ([1, 2], {"allowed": ["1"]}, "does not suit"),
        (["a"], {"allowed": ["a", 1]}, "does not suit"),
        ([1, 0], {"allowed": [True]}, "does not suit"),
        ([date(2024, 1, 1)], {"allowed": ["2024-01-01"]}, "does not suit"),
        ([1, 2], {"pattern": "x"}, "is for texts"),
        (["a"], {"pattern": "("}, "regular expression: unclosed group"),
        (["a"], {"pattern": "(?=x)"}, "regular expression"),
    ],
)
def test_checks_that_do_not_suit_their_column(
    values: list[Any], rule: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message) as error:
        check(values, **rule)
    assert error.value.hint


def test_an_unknown_column() -> None:
    with pytest.raises(NotFound, match="no column 'aeg'") as error:
        validate({"age": [1]}, {"column": "aeg", "min": 0})
    assert "Did you mean 'age'?" in str(error.value.hint)


def test_a_pattern_cannot_take_long() -> None:
    assert failing(["a" * 50_000 + "!"], pattern="(a+)+") == [0]
