import math
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.inference.encoding import encode_rows
from mcp_hub.services.registry.views import FieldKind, InputField


def field(name: str, kind: FieldKind, nullable: bool = True) -> InputField:
    dtype = "string" if kind in ("category", "text") else "float32"
    width = 6 if kind == "datetime" else 1
    return InputField(name=name, dtype=dtype, shape=[None, width], kind=kind, nullable=nullable)


def tensor(shape: list[int | None], dtype: str = "float32", nullable: bool = False) -> InputField:
    return InputField(name="x", dtype=dtype, shape=shape, nullable=nullable)


ALL = [
    field("age", "number"),
    field("member", "boolean"),
    field("city", "category"),
    field("note", "text"),
    field("seen", "datetime"),
]
ROW: dict[str, Any] = {
    "age": 41,
    "member": True,
    "city": "Łódź",
    "note": "a 🚀 note",
    "seen": "2026-03-31T14:05:09",
}


def refusal(inputs: Sequence[InputField], *rows: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        encode_rows(inputs, rows)
    assert caught.value.hint
    return caught.value


def test_every_kind_becomes_its_tensor() -> None:
    nulls = dict.fromkeys(ROW)
    arrays = encode_rows(ALL, [ROW, nulls])
    assert list(arrays) == [f.name for f in ALL]
    assert {name: a.dtype.name for name, a in arrays.items()} == {
        "age": "float32",
        "member": "float32",
        "city": "object",
        "note": "object",
        "seen": "float32",
    }
    np.testing.assert_array_equal(arrays["age"], [[41], [math.nan]])
    np.testing.assert_array_equal(arrays["member"], [[1], [math.nan]])
    assert arrays["city"].tolist() == [["Łódź"], [""]]
    assert arrays["note"].tolist() == [["a 🚀 note"], [""]]
    np.testing.assert_array_equal(arrays["seen"], [[2026, 3, 31, 1, 14, 5], [math.nan] * 6])


def test_a_category_may_be_a_code() -> None:
    arrays = encode_rows([field("zip", "category")], [{"zip": 10115}, {"zip": "01067"}])
    assert arrays["zip"].tolist() == [["10115"], ["01067"]]


def test_the_order_of_columns_in_a_row_does_not_matter() -> None:
    arrays = encode_rows(ALL, [dict(reversed(ROW.items()))])
    assert arrays["age"].tolist() == [[41.0]]


def test_many_rows_keep_their_order_in_each_of_several_columns() -> None:
    inputs = [field("a", "number"), field("b", "number")]
    arrays = encode_rows(inputs, [{"a": i, "b": -i} for i in range(100)])
    assert arrays["a"][:, 0].tolist() == list(range(100))
    assert arrays["b"][:, 0].tolist() == [-i for i in range(100)]
    assert arrays["a"].flags["C_CONTIGUOUS"]


def test_a_datetime_with_an_offset_is_taken_in_utc() -> None:
    seen = [field("seen", "datetime")]
    arrays = encode_rows(seen, [{"seen": "2026-01-01T00:30:00+01:00"}, {"seen": "2026-01-01"}])
    assert arrays["seen"].tolist() == [[2025, 12, 31, 2, 23, 30], [2026, 1, 1, 3, 0, 0]]


def test_a_missing_column_is_named_with_the_columns_that_belong() -> None:
    row = {name: value for name, value in ROW.items() if name != "city"}
    error = refusal(ALL, ROW, row)
    assert error.message == "Row 1 lacks the column 'city'."
    assert "age (number), member (boolean), city (category)" in str(error.hint)


def test_a_misspelt_column_is_named_with_the_nearest() -> None:
    row = {("citty" if name == "city" else name): value for name, value in ROW.items()}
    error = refusal(ALL, row)
    assert "'citty'" in error.message
    assert "Did you mean 'city'?" in str(error.hint)


def test_the_names_of_a_wide_model_are_cut() -> None:
    inputs = [field(f"c{i}", "number") for i in range(500)]
    error = refusal(inputs, {})
    assert "and 480 more" in error.message
    assert len(error.message) + len(str(error.hint)) < 1500


@pytest.mark.parametrize("rows", [[], [3], ["age"], [None], [[1, 2]]])
def test_rows_must_be_objects(rows: list[Any]) -> None:
    assert "The model's columns: age (number)" in str(refusal(ALL, *rows).hint)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("age", "41", "'41' is not a number"),
        ("age", True, "true is not a number"),
        ("age", [41], "[41] is not a number"),
        ("age", math.nan, "nan is not finite"),
        ("age", math.inf, "inf is not finite"),
        ("age", -math.inf, "-inf is not finite"),
        ("age", 1e39, "1e+39 is too large for float32"),
        ("age", 10**400, "is too large for float32"),
        ("member", 1, "1 is not a boolean"),
        ("member", "true", "'true' is not a boolean"),
        ("city", 7.5, "7.5 is not a category"),
        ("city", True, "true is not a category"),
        ("note", 7, "7 is not a text"),
        ("city", "\ud83d", "holds half a surrogate pair"),
        ("note", {"a": 1}, "is not a text"),
        ("note", False, "false is not a text"),
        ("seen", "soon", "'soon' is not a date or time"),
        ("seen", "2026-13-01", "is not a date or time"),
        ("seen", "", "is not a date or time"),
        ("seen", "0001-01-01T00:00:00+10:00", "is not a date or time"),
        ("seen", 1767225600, "1767225600 is not a datetime"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(column: str, value: Any, problem: str) -> None:
    error = refusal(ALL, ROW, {**ROW, column: value})
    assert error.message.startswith(f"Row 1, column {column!r}: ")
    assert problem in error.message
    assert f"{column!r} takes " in str(error.hint)
    assert "use null for a missing value" in str(error.hint)


def test_a_null_is_refused_where_it_is_not_nullable() -> None:
    strict = [f.model_copy(update={"nullable": False}) for f in ALL]
    for column in ROW:
        error = refusal(strict, {**ROW, column: None})
        assert error.message == f"Row 0, column {column!r}: null is not accepted here."


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refusal(ALL, {**ROW, "age": "x" * 100_000}).message) < 200


def test_a_null_among_good_numbers_does_not_hide_a_bad_one() -> None:
    error = refusal([field("age", "number")], {"age": None}, {"age": 1}, {"age": math.nan})
    assert error.message == "Row 2, column 'age': nan is not finite."


def test_tensors_of_each_dtype() -> None:
    def encode(shape: list[int | None], dtype: str, *values: Any) -> Any:
        return encode_rows([tensor(shape, dtype)], [{"x": value} for value in values])["x"]

    floats = encode([None, 2, 2], "float64", [[1, 2], [3, 4.5]], [[5, 6], [7, 8]])
    assert (floats.dtype.name, floats.shape) == ("float64", (2, 2, 2))
    assert floats.tolist() == [[[1, 2], [3, 4.5]], [[5, 6], [7, 8]]]
    assert encode([None], "int64", 2**60).tolist() == [2**60]
    assert encode([None, 2], "bool", [True, False]).tolist() == [[True, False]]
    assert encode([None, 1], "string", ["é"]).tolist() == [["é"]]
    assert encode([1, 2], "uint8", [0, 255]).dtype.name == "uint8"
    assert encode([None, None], "float32", [1, 2, 3], [4, 5, 6]).shape == (2, 3)
    assert encode([None, 0], "float32", []).shape == (1, 0)
    assert encode([], "float32", 4).shape == ()


@pytest.mark.parametrize(
    ("shape", "dtype", "value", "problem"),
    [
        ([None, 2], "float32", [1], "has a list of 1 where 2 belong"),
        ([None, 2], "float32", 1, "1 is not a list"),
        ([None, 2], "float32", [1, [2]], "[2] is not a float32"),
        ([None, 2], "float32", [1, "2"], "'2' is not a float32"),
        ([None, 2], "float32", [1, True], "true is not a float32"),
        ([None, 2], "float32", [1, None], "null is not a float32"),
        ([None, 2], "float32", [1, math.nan], "nan is not finite"),
        ([None, 2], "float32", [1, 1e300], "1e+300 is too large for float32"),
        ([None, 2, 1], "float32", [[1], [2, 3]], "has a list of 2 where 1 belong"),
        ([None, 1], "int64", [1.0], "1.0 is not a int64"),
        ([None, 1], "int64", [2**63], "does not fit int64"),
        ([None, 1], "uint8", [-1], "-1 does not fit uint8"),
        ([None, 1], "bool", [1], "1 is not a bool"),
        ([None, 1], "string", [1], "1 is not a string"),
        ([None, 1], "string", ["\udc00"], "holds half a surrogate pair"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(
    shape: list[int | None], dtype: str, value: Any, problem: str
) -> None:
    error = refusal([tensor(shape, dtype)], {"x": value})
    assert error.message.startswith("Row 0, column 'x': ")
    assert problem in error.message
    assert dtype in str(error.hint)


def test_rows_of_a_tensor_with_open_sizes_must_agree() -> None:
    error = refusal([tensor([None, None])], {"x": [1, 2]}, {"x": [1, 2, 3]})
    assert "has a list of 3 where 2 belong" in error.message
    assert error.message.startswith("Row 1")


def test_a_fixed_number_of_rows_is_kept_to() -> None:
    error = refusal([tensor([1, 2])], {"x": [1, 2]}, {"x": [1, 2]})
    assert error.message == "2 rows were given, and the model takes 1 at a time."


def test_a_nullable_tensor_takes_null_elements_as_nan() -> None:
    arrays = encode_rows([tensor([None, 2], nullable=True)], [{"x": [1, None]}])
    np.testing.assert_array_equal(arrays["x"], [[1, math.nan]])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(ROW)), JSON) | JSON, max_size=3))
def test_any_json_is_encoded_or_refused(rows: list[Any]) -> None:
    try:
        arrays = encode_rows(ALL, rows)
    except InvalidArgument:
        return
    assert all(len(array) == len(rows) for array in arrays.values())


@given(JSON)
def test_any_json_tensor_is_encoded_or_refused(value: Any) -> None:
    try:
        arrays = encode_rows([tensor([None, 2, None])], [{"x": value}])
    except InvalidArgument:
        return
    assert arrays["x"].shape[:2] == (1, 2)


def test_a_row_of_thirty_columns_takes_well_under_a_fifth_of_a_millisecond() -> None:
    inputs = [field(f"n{i}", "number") for i in range(20)]
    inputs += [field(f"c{i}", "category") for i in range(10)]
    rows = [{f.name: 1.5 if f.kind == "number" else "red" for f in inputs}]
    took = []
    for _ in range(200):
        started = perf_counter()
        encode_rows(inputs, rows)
        took.append(perf_counter() - started)
    assert min(took) < 0.0002
