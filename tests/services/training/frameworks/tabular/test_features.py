from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
from onnx import TensorProto

from mcp_hub.services.training.frameworks.tabular import TableConfig
from mcp_hub.services.training.frameworks.tabular.columns import (
    choose_columns,
    encode,
    plain_values,
)
from mcp_hub.services.training.frameworks.tabular.features import Features
from mcp_hub.services.training.frameworks.tabular.graph import Graph

YEARLY = [date(1990 + n, 1, 1) for n in range(12)]
MONTHLY = [date(2020, 1 + n, 1) for n in range(12)]
DAILY = [date(2020, 1, 1 + n) for n in range(12)]


def features_of(columns: dict[str, Sequence[Any]], kind: str) -> tuple[Features, Any]:
    """Features fitted on a table whose columns are all of a kind, and its arrays."""
    frame = pl.DataFrame(columns)
    config = TableConfig.model_validate({"columns": dict.fromkeys(columns, kind)})
    chosen = choose_columns(frame, None, config)
    plain, _ = plain_values(frame, chosen)
    features = Features(chosen.inputs(), 100)
    arrays = encode(plain, chosen.inputs())
    features.fit(arrays)
    return features, arrays


@pytest.mark.parametrize(
    ("dates", "first", "last"),
    [
        (YEARLY, [1990], [2001]),
        (MONTHLY, [1], [12]),
        (DAILY, [1, 2], [12, 6]),  # 2020 began on a Wednesday.
        ([*YEARLY[:1], *MONTHLY], [1990, 1], [2020, 12]),
    ],
)
def test_of_dates_what_varies_is_left(dates: list[date], first: list[int], last: list[int]) -> None:
    features, arrays = features_of({"when": dates}, "datetime")
    matrix = features.matrix(features.transform(arrays), scaled=False)
    assert [matrix[0].tolist(), matrix[-1].tolist()] == [first, last]


def test_what_is_constant_is_left_out_unless_all_is() -> None:
    features, arrays = features_of({"a": [1, 1, 1], "b": [1, 2, None]}, "number")
    assert features.matrix(features.transform(arrays), scaled=False).tolist() == [
        [1, 0], [2, 0], [1.5, 1]
    ]  # fmt: skip
    features, arrays = features_of({"a": [1, 1, 1], "b": [2, 2, 2]}, "number")
    assert features.matrix(features.transform(arrays), scaled=False).tolist() == [[1, 2]] * 3


@pytest.mark.parametrize("scaled", [False, True])
def test_the_graph_makes_the_same(scaled: bool) -> None:
    features, arrays = features_of({"year": YEARLY, "day": DAILY}, "datetime")
    graph = Graph()
    name = features.add_to(graph, scaled)
    graph.output(
        name, "matrix", TensorProto.FLOAT, [None, len(features.transform(arrays).numbers.T)]
    )
    session = onnxruntime.InferenceSession(
        graph.model().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [made] = session.run(None, arrays)
    expected = features.matrix(features.transform(arrays), scaled)
    np.testing.assert_array_equal(made, expected.astype(np.float32))
