"""Tallies of parts against scikit-learn on all rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from mcp_hub.services.scoring.measures import (
    AnomalyTally,
    ClassTally,
    ClusterTally,
    NumberTally,
    Scores,
)

LIMIT = 1_000
seeds = st.integers(0, 10_000)


def parts(rows: int) -> list[NDArray[np.intp]]:
    """The rows in parts of several sizes, some empty."""
    return np.array_split(np.arange(rows), sorted([0, 1, 3, rows // 2]))


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(2, 5), st.integers(2, 40), st.booleans())
def test_classes(seed: int, count: int, rows: int, some_are_unknown: bool) -> None:
    random = np.random.default_rng(seed)
    expected = random.integers(0, count, rows)
    table = random.dirichlet(np.ones(count), rows)
    predicted = table.argmax(axis=1)
    if some_are_unknown:
        predicted[random.random(rows) < 0.3] = -1
    tally = ClassTally(LIMIT, count)
    for part in parts(rows):
        tally.add(expected[part], predicted[part], table[part])
    classes = [f"class {code}" for code in range(count)]
    told = tally.scores(classes)
    averages = {"average": "macro", "zero_division": 0}
    present = np.unique(expected)
    correct = {
        "accuracy": metrics.accuracy_score(expected, predicted),
        "balanced_accuracy": np.mean([(predicted == c)[expected == c].mean() for c in present]),
        "f1_macro": metrics.f1_score(expected, predicted, **averages),
        "precision_macro": metrics.precision_score(expected, predicted, **averages),
        "recall_macro": metrics.recall_score(expected, predicted, **averages),
        "log_loss": metrics.log_loss(expected, table, labels=range(count)),
    }
    if len(present) == count:
        scores = table[:, 1] if count == 2 else table
        correct["roc_auc"] = metrics.roc_auc_score(expected, scores, multi_class="ovr")
    assert told.metrics == pytest.approx(correct)
    matrix = metrics.confusion_matrix(expected, predicted, labels=range(count))
    assert told.confusion is not None
    assert told.confusion.matrix == matrix.tolist()


def test_classes_by_other_positions_and_without_probabilities() -> None:
    tally = ClassTally(LIMIT)
    tally.add(np.array([0, 1, 1]), np.array([0, 1, -1]), None)
    told = tally.scores(["b", "a"], np.array([1, 0]))
    assert told.confusion is not None
    assert told.confusion.matrix == [[1, 0], [0, 1]]
    assert set(told.metrics) & {"roc_auc", "log_loss"} == set()
    assert told.metrics["accuracy"] == pytest.approx(2 / 3)


def test_many_classes_show_their_confusions() -> None:
    tally = ClassTally(LIMIT)
    codes = np.arange(20)
    tally.add(np.repeat(codes, 3), np.repeat(codes, 3), None)
    tally.add(np.full(5, 7), np.full(5, 9), None)
    told = tally.scores([f"c{code}" for code in codes])
    assert told.confusion is None
    assert told.confused == [("c7", "c9", 5)]
    assert (told.classes[0].label, told.classes[0].rows) == ("c7", 8)


def test_probabilities_that_are_no_numbers_are_left_out_and_told() -> None:
    tally = ClassTally(LIMIT, 2)
    table = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan]])
    tally.add(np.array([0, 1, 1]), np.array([0, 1, 0]), table)
    told = tally.scores(["a", "b"])
    assert told.metrics["roc_auc"] == 1
    assert told.metrics["log_loss"] == pytest.approx(metrics.log_loss([0, 1], table[:2]))
    assert any("1 rows have probabilities that are no numbers" in note for note in told.notes)


def test_a_measure_that_is_not_exact_says_so() -> None:
    random = np.random.default_rng(0)
    tally = ClassTally(300, 2)
    expected, table = random.integers(0, 2, 2_000), random.dirichlet([1, 1], 2_000)
    tally.add(expected, table.argmax(axis=1), table)
    told = tally.scores(["a", "b"])
    assert any("roc_auc: close, not exact" in note for note in told.notes)
    correct = metrics.roc_auc_score(expected, table[:, 1])
    assert told.metrics["roc_auc"] == pytest.approx(correct, abs=0.01)


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(2, 40), st.sampled_from([0.0, 1.0, 1e6]))
def test_numbers(seed: int, rows: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    expected = random.normal(size=rows).round(1) + offset
    predicted = expected + random.normal(size=rows)
    tally = NumberTally(LIMIT)
    for part in parts(rows):
        tally.add(expected[part], predicted[part])
    correct = {
        "r2": metrics.r2_score(expected, predicted),
        "rmse": metrics.root_mean_squared_error(expected, predicted),
        "mae": metrics.mean_absolute_error(expected, predicted),
        "median_absolute_error": metrics.median_absolute_error(expected, predicted),
        "max_error": metrics.max_error(expected, predicted),
    }
    if expected.all():
        correct["mape"] = metrics.mean_absolute_percentage_error(expected, predicted)
    told = tally.scores()
    assert told.metrics == pytest.approx(correct)
    mean = np.abs(expected - expected.mean()).mean()
    assert f"scores an MAE of {mean:.4g}"[:-1] in told.notes[0]


@pytest.mark.parametrize(("predicted", "r2"), [([1.0, 1.0], 1.0), ([1.0, 2.0], 0.0)])
def test_the_same_number_throughout(predicted: list[float], r2: float) -> None:
    tally = NumberTally(LIMIT)
    tally.add(np.ones(2), np.array(predicted))
    assert tally.scores().metrics["r2"] == r2 == metrics.r2_score(np.ones(2), predicted)


def test_predictions_that_are_not_finite_are_left_out_and_told() -> None:
    tally = NumberTally(LIMIT)
    tally.add(np.array([1.0, 2.0, 3.0]), np.array([1.5, np.nan, np.inf]))
    told = tally.scores()
    assert told.metrics["mae"] == 0.5
    assert told.notes[0].startswith("2 predictions are not finite")
    tally = NumberTally(LIMIT)
    tally.add(np.array([1.0]), np.array([np.nan]))
    assert tally.scores() == Scores({}, notes=["1 predictions are not finite, and left out."])


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(2, 40))
def test_clusters(seed: int, count: int, kinds: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    clusters = random.integers(0, count, rows)
    labels = np.array([f"kind {kind}" for kind in random.integers(0, kinds, rows)])
    distances = random.random((rows, 3))
    tally = ClusterTally()
    for part in parts(rows):
        tally.add(clusters[part], labels[part], distances[part])
    own, other = np.sort(distances, axis=1)[:, :2].T
    sizes = np.unique(clusters, return_counts=True)[1]
    assert tally.scores().metrics == pytest.approx(
        {
            "clusters": len(sizes),
            "smallest_share": sizes.min() / rows,
            "simplified_silhouette": np.mean((other - own) / other),
            "mean_distance": own.mean(),
            "adjusted_rand_index": metrics.adjusted_rand_score(labels, clusters),
            "normalized_mutual_information": metrics.normalized_mutual_info_score(labels, clusters),
        },
        abs=1e-12,
    )


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(2, 40))
def test_anomalies(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(rows) < 0.3
    scores = (random.normal(size=rows) + truth).round(1)
    flags = scores > 0.5
    tally = AnomalyTally(LIMIT)
    for part in parts(rows):
        tally.add(flags[part], truth[part], scores[part, None])
    correct = {
        "flagged_share": flags.mean(),
        "precision": metrics.precision_score(truth, flags, zero_division=0),
        "recall": metrics.recall_score(truth, flags, zero_division=0),
        "f1": metrics.f1_score(truth, flags, zero_division=0),
    }
    if 0 < truth.sum() < rows:
        correct["roc_auc"] = metrics.roc_auc_score(truth, scores)
        correct["average_precision"] = metrics.average_precision_score(truth, scores)
    assert tally.scores().metrics == pytest.approx(correct)
