from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig
from mcp_hub.services.training.frameworks.tabular import InputKind
from mcp_hub.services.training.frameworks.tabular.columns import (
    Columns,
    choose_columns,
    encode,
    plain_values,
)

FRAME = pl.DataFrame(
    {
        "user_id": range(100, 130),
        "same": ["x"] * 30,
        "nothing": pl.Series([None] * 30, dtype=pl.String),
        "nested": [[1, 2]] * 30,
        "size": [i * 1.5 for i in range(30)],
        "zip": [10115, 20095, 80331] * 10,
        "y": ["a", "b"] * 15,
    }
)


def plain(column: pl.Series, kind: InputKind) -> list[Any]:
    frame, _ = plain_values(column.to_frame(), Columns({column.name: kind}, {}))
    return frame[column.name].to_list()


def test_what_says_nothing_is_dropped_with_the_reason() -> None:
    columns = choose_columns(FRAME, "y", SklearnConfig())
    assert columns.kinds == {"size": "number", "zip": "category"}
    assert columns.dropped == {
        "user_id": "identifier",
        "same": "constant",
        "nothing": "constant",
        "nested": "identifier",
    }


def test_the_config_decides_over_what_is_inferred() -> None:
    config = SklearnConfig(columns={"zip": "number", "user_id": "number"}, drop=["size"])
    columns = choose_columns(FRAME, "y", config)
    assert columns.kinds == {"user_id": "number", "zip": "number"}
    assert columns.dropped["size"] == "by config"


@pytest.mark.parametrize(
    ("config", "message", "hint"),
    [
        ({"drop": ["sise"]}, "config.drop names 'sise'", "Did you mean 'size'?"),
        ({"columns": {"zipp": "text"}}, "config.columns names 'zipp'", "Did you mean 'zip'?"),
        ({"drop": ["y"]}, "config.drop names the target, 'y'", "other columns"),
        ({"columns": {"y": "text"}}, "config.columns names the target, 'y'", "other columns"),
        ({"drop": ["zip"], "columns": {"zip": "text"}}, "'zip' is in config.drop and in", "one"),
        (
            {"drop": ["size", "zip"]},
            "No column is left to learn 'y' from: user_id (identifier), same (constant)",
            "config.columns={name: kind}",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    config: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        choose_columns(FRAME, "y", SklearnConfig(**config))
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (pl.Series([1, None]), "number", [1.0, None]),
        (pl.Series([True, None]), "number", [1.0, None]),
        (pl.Series([" 1.5", "2e3"]), "number", [1.5, 2000.0]),
        (pl.Series([1e38, -1e300, float("inf"), 2.0]), "number", [None, None, None, 2.0]),
        (pl.Series([1, 0, None]), "boolean", [True, False, None]),
        (pl.Series([1.0, 0.0, None]), "boolean", [True, False, None]),
        (pl.Series(["TRUE", "false", None]), "boolean", [True, False, None]),
        (pl.Series([5, None, -1]), "category", ["5", None, "-1"]),
        (pl.Series([5.0, 0.5, None]), "category", ["5", "0.5", None]),
        (pl.Series([True, False]), "category", ["true", "false"]),
        (pl.Series([date(2026, 3, 31)]), "category", ["2026-03-31"]),
        (pl.Series(["é", None]), "text", ["é", None]),
        (pl.Series([date(2026, 3, 31), None]), "datetime", ["2026-03-31T00:00:00", None]),
        (pl.Series([datetime.fromisoformat("0033-04-03T15:00:01.5")]), "datetime",
         ["0033-04-03T15:00:01"]),
        (pl.Series(["03/31/2026", None]), "datetime", ["2026-03-31T00:00:00", None]),
        (pl.Series([date(2026, 3, 31)]).dt.offset_by("9000y"), "datetime", [None]),
    ],
)  # fmt: skip
def test_values_as_json_has_them(column: pl.Series, kind: InputKind, expected: list[Any]) -> None:
    assert plain(column.alias("c"), kind) == expected


@pytest.mark.parametrize(
    ("column", "kind", "shown"),
    [
        (pl.Series(["1", "one"]), "number", "row 1 holds 'one'"),
        (pl.Series([date(2026, 1, 1)]), "number", "row 0 holds '2026-01-01'"),
        (pl.Series([0, 1, 2]), "boolean", "row 2 holds '2'"),
        (pl.Series(["yes"]), "boolean", "row 0 holds 'yes'"),
        (pl.Series([None, "soon"]), "datetime", "row 1 holds 'soon'"),
        (pl.Series([1]), "datetime", "row 0 holds '1'"),
        (pl.Series([[1]]), "text", "row 0 holds"),
        (pl.Series([[1]]), "category", "row 0 holds"),
        (pl.Series([b"x"]), "number", "row 0 holds"),
    ],
)
def test_values_that_are_not_of_the_kind_are_refused(
    column: pl.Series, kind: InputKind, shown: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        plain(column.alias("c"), kind)
    assert f"column 'c' is to be a {kind}" in caught.value.message.replace("text", kind)
    assert shown in caught.value.message
    assert "number, boolean, category, text, datetime" in str(caught.value.hint)


def test_rows_are_encoded_in_pieces_that_join_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_hub.services.training.frameworks.tabular import columns as module

    monkeypatch.setattr(module, "_CELLS_AT_ONCE", 7)
    columns = Columns({"size": "number", "zip": "category"}, {})
    values, unusable = plain_values(FRAME, columns)
    arrays = encode(values, columns.inputs())
    assert arrays["size"][:, 0].tolist() == FRAME["size"].to_list()
    assert arrays["zip"][:, 0].tolist() == FRAME["zip"].cast(pl.String).to_list()
    assert unusable == {}
