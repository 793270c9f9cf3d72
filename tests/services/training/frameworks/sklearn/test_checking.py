"""What is refused before a job is queued, without loading scikit-learn; and that it is all true."""

from typing import Any

import pytest

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.training.frameworks.sklearn import ESTIMATORS, METRICS, SklearnConfig
from mcp_hub.services.training.frameworks.sklearn.estimators import CLASSIFIERS, REGRESSORS
from mcp_hub.services.training.frameworks.sklearn.grouping import ANOMALY_TYPES, CLUSTER_TYPES
from mcp_hub.services.training.frameworks.tabular.reports import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
)
from tests.services.training.conftest import Submit


@pytest.mark.parametrize(
    ("type", "config", "message"),
    [
        ("classification", {"estimator": "kmeans"}, "kmeans does not do classification"),
        ("classification", {"metric": "r2"}, "r2 is no metric of classification"),
        ("classification", {"contamination": 0.1}, "config.contamination is not for"),
        ("clustering", {"auto": True}, "config.auto is not for clustering"),
        ("anomaly", {"class_weight": "balanced"}, "config.class_weight is not for anomaly"),
    ],
)
async def test_what_a_type_does_not_have_is_refused_at_submission(
    submit: Submit, type: str, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await submit(framework="sklearn", type=type, target="y", config=config)


def test_the_lists_are_those_of_what_trains() -> None:
    trained = {
        "classification": CLASSIFIERS, "regression": REGRESSORS,
        "clustering": CLUSTER_TYPES, "anomaly": ANOMALY_TYPES,
    }  # fmt: skip
    assert {type: list(names) for type, names in ESTIMATORS.items()} == {
        type: list(kinds) for type, kinds in trained.items()
    }
    assert METRICS == {"classification": CLASSIFICATION_METRICS, "regression": REGRESSION_METRICS}
    named = {name for names in ESTIMATORS.values() for name in names} | {"auto"}
    assert named == set(SklearnConfig.model_json_schema()["properties"]["estimator"]["enum"])
