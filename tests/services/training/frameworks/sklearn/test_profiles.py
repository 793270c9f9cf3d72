"""What is said of clusters."""

import numpy as np
import polars as pl

from mcp_hub.services.registry.views import FieldKind, InputField
from mcp_hub.services.training.frameworks.sklearn.profiles import profiles


def field(name: str, kind: FieldKind) -> InputField:
    return InputField(name=name, dtype="float32", shape=[None, 1], kind=kind)


def summaries(column: pl.Series, kind: FieldKind, labels: list[int]) -> list[str]:
    told = profiles(column.to_frame(), [field(column.name, kind)], np.array(labels))
    return [one["summary"] for one in told]


def test_each_kind_of_column_tells_how_a_cluster_differs() -> None:
    halves = [0, 0, 1, 1]
    assert summaries(pl.Series("x", [1.0, 1.0, 3.0, 3.0]), "number", halves) == [
        "x low (1, all 2)", "x high (3, all 2)",
    ]  # fmt: skip
    dates = pl.Series("since", ["2023-01-01", "2023-01-03", "2024-01-01", "2024-01-03"])
    assert summaries(dates, "datetime", halves) == [
        "since early (2023-01-02, all 2023-07-03)", "since late (2024-01-02, all 2023-07-03)",
    ]  # fmt: skip
    plans = pl.Series("plan", ["basic", "basic", "pro", "pro"])
    assert summaries(plans, "category", halves) == [
        "plan 'basic' 100% (all 50%)", "plan 'pro' 100% (all 50%)",
    ]  # fmt: skip


def test_dates_are_read_alike_in_all_clusters() -> None:
    dates = pl.Series("since", ["13/02/2023", "25/02/2023", "01/03/2023", "04/03/2023"])
    early, late = summaries(dates, "datetime", [0, 0, 1, 1])
    assert early.startswith("since early (2023-02-19")
    assert late.startswith("since late (2023-03-02")


def test_a_time_that_no_calendar_has_is_none() -> None:
    times = pl.Series("at", [0, 86_400_000_000, 10**18, 10**18]).cast(pl.Datetime("us"))
    assert summaries(times, "datetime", [0, 1, 0, 1])[1].startswith("at late (1970-01-02")


def test_what_is_missing_is_told() -> None:
    ages = pl.Series("age", [30, 30, None, None], dtype=pl.Int64)
    assert summaries(ages, "number", [0, 0, 1, 1]) == [
        "age missing 0% (all 50%)", "age missing 100% (all 50%)",
    ]  # fmt: skip


def test_a_cluster_like_all_is_said_to_be() -> None:
    values = pl.Series("x", [1.0, 3.0, 1.0, 3.0, None, None])
    told = profiles(values.to_frame(), [field("x", "number")], np.array([0, 0, 1, 1, 0, 1]))
    assert [one["summary"] for one in told] == ["close to the average in every column"] * 2
    assert [one["traits"] for one in told] == [[], []]
    assert [(one["rows"], one["share"]) for one in told] == [(3, 0.5), (3, 0.5)]
