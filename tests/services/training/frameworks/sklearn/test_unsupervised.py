"""Clustering and anomaly detection: what is found, told, exported and served."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_iris, make_blobs

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.training.frameworks.tabular.targets import read_flags

from .conftest import Train, Trained

CLUSTERERS = ("kmeans", "gaussian_mixture")
DETECTORS = ("isolation_forest", "one_class_svm", "local_outlier_factor")


def blobs(rows: int = 400, centers: int = 4) -> pl.DataFrame:
    """Well apart groups, with a category that goes with them, and gaps."""
    points, labels = make_blobs(
        rows, n_features=3, centers=centers, cluster_std=0.6, random_state=3
    )
    frame = pl.DataFrame(points, schema=["a", "b", "c"])
    return frame.with_columns(
        pl.when(pl.int_range(rows) % 40 == 0).then(None).otherwise(pl.col("a")).alias("a"),
        colour=pl.Series(["red", "green", "blue", "grey"] * 10)[labels.tolist()],
        group=pl.Series(labels),
    )


def with_outliers(rows: int = 500) -> pl.DataFrame:
    random = np.random.default_rng(1)
    points = random.normal(0, 1, (rows, 4))
    odd = np.arange(rows) % 25 == 0
    points[odd] += random.choice([-8, 8], (int(odd.sum()), 4))
    frame = pl.DataFrame(points, schema=["a", "b", "c", "d"])
    return frame.with_columns(kind=pl.Series(["x", "y"] * (rows // 2)), odd=pl.Series(odd))


def served(trained: Trained, frame: pl.DataFrame) -> list[Any]:
    names = [field.name for field in trained.signature.inputs]
    return trained.predict(frame.select(names).to_dicts())


@pytest.mark.parametrize("estimator", CLUSTERERS)
def test_groups_are_found_without_being_told_how_many(train: Train, estimator: str) -> None:
    frame = blobs()
    trained = train(frame, "group", "clustering", estimator=estimator)
    assert trained.metrics["adjusted_rand_index"] > 0.95
    assert trained.metrics["clusters"] == 4
    assert trained.metrics["silhouette"] > trained.metrics["baseline_silhouette"] + 0.2
    assert trained.metrics["davies_bouldin"] < 0.8
    tried = dict(trained.series("silhouette_by_clusters"))
    assert sorted(tried) == list(range(2, 11))
    assert max(tried, key=lambda k: tried[k]) == 4
    assert "there may be no clusters" not in trained.log
    assert "group" not in [field.name for field in trained.signature.inputs]
    told = trained.artifact("clusters.json")["clusters"]
    assert sum(one["rows"] for one in told) == trained.params["rows_trained"]
    assert any("colour" in one["summary"] for one in told)
    clusters, table = served(trained, frame)
    assert (
        clusters.tolist()
        == (table.argmin(axis=1) if estimator == "kmeans" else table.argmax(axis=1)).tolist()
    )
    roles = [output.role for output in trained.signature.outputs]
    assert roles == ["prediction", "score" if estimator == "kmeans" else "probabilities"]


def test_a_number_of_clusters_that_is_given_is_taken(train: Train) -> None:
    trained = train(blobs(), None, "clustering", clusters=3)
    assert trained.metrics["clusters"] == 3
    assert trained.metrics["inertia"] > 0
    assert "adjusted_rand_index" not in trained.metrics
    assert not trained.series("silhouette_by_clusters")


def test_noise_is_warned_of(train: Train) -> None:
    noise = pl.DataFrame(np.random.default_rng(0).normal(size=(300, 5)), schema=[*"abcde"])
    trained = train(noise, None, "clustering")
    assert "there may be no clusters in this data" in trained.log


@pytest.mark.parametrize("estimator", DETECTORS)
def test_outliers_are_found_without_their_label(train: Train, estimator: str) -> None:
    frame = with_outliers()
    trained = train(frame, "odd", "anomaly", estimator=estimator, contamination=0.05)
    metrics = trained.metrics
    assert metrics["roc_auc"] > 0.97
    assert metrics["recall"] > 0.6
    assert metrics["baseline_average_precision"] < 0.1 < metrics["average_precision"]
    assert 0.01 < metrics["flagged_share"] < 0.15
    flags, scores = served(trained, frame)
    assert flags.dtype == bool
    np.testing.assert_array_equal(flags, scores > 0)
    odd = frame["odd"].to_numpy()
    assert scores[odd].mean() > scores[~odd].mean()
    worst = trained.artifact("anomalies.json")["most_anomalous"][0]
    assert odd[worst["row"]]
    assert max(abs(value) for value in worst["deviating"].values()) > 2


def test_no_target_is_needed(train: Train) -> None:
    trained = train(with_outliers().drop("odd"), None, "anomaly")
    assert set(trained.metrics) == {"flagged_share"}
    assert trained.metrics["flagged_share"] < 0.2
    assert trained.params["estimator"] == "isolation_forest"


def test_texts_are_grouped_by_their_words(train: Train) -> None:
    topics = ["the cat and the dog play in the garden {}", "rates of banks rise as markets fall {}"]
    frame = pl.DataFrame({"text": [topics[n % 2].format(n) for n in range(60)]})
    trained = train(frame, None, "clustering", columns={"text": "text"}, clusters=2)
    clusters, _ = served(trained, frame)
    assert len({*clusters[::2]}) == len({*clusters[1::2]}) == 1
    assert clusters[0] != clusters[1]


@pytest.mark.parametrize(
    ("type", "config", "message"),
    [
        ("clustering", {"estimator": "random_forest"}, "random_forest does not do clustering"),
        ("anomaly", {"estimator": "kmeans"}, "kmeans does not do anomaly"),
        ("classification", {"estimator": "kmeans"}, "kmeans does not do classification"),
        ("clustering", {"contamination": 0.1}, "config.contamination is not for clustering"),
        ("anomaly", {"clusters": 3}, "config.clusters is not for anomaly"),
        ("regression", {"clusters": 3}, "config.clusters is not for regression"),
        ("clustering", {"metric": "accuracy"}, "config.metric is not for clustering"),
        ("clustering", {"estimator": "kmeans", "params": {"k": 3}}, "no parameter 'k'"),
        ("clustering", {"estimator": "kmeans", "params": {"n_init": -1}}, "refused its params"),
        ("clustering", {"clusters": 100}, "100 clusters were asked for"),
        ("anomaly", {"target": "species"}, "has 3 values"),
    ],
)
def test_what_cannot_be_found_is_told(
    train: Train, type: str, config: dict[str, Any], message: str
) -> None:
    data = load_iris()
    frame = pl.DataFrame(data.data, schema=["a", "b", "c", "d"]).with_columns(
        species=pl.Series(data.target)
    )[::2]
    target = config.pop("target", "species" if type in ("classification", "regression") else None)
    with pytest.raises(InvalidArgument) as refused:
        train(frame, target, type, **config)
    assert message in refused.value.message


def test_flags_are_read_as_people_write_them() -> None:
    for values in ([True, False, False], [1, 0, 0], [-1, 1, 1], ["bad", "ok", "ok"], [1.0, 0, 0]):
        assert read_flags(pl.Series("t", values)).tolist() == [True, False, False]
