"""How good a model's answers are, by its type."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from mcp_hub.services.registry.views import Scalar
from mcp_hub.services.scoring.views import ClassScores, Confusion
from mcp_hub.services.training.frameworks.tabular.reports import Predicted
from mcp_hub.services.training.frameworks.tabular.reports import evaluate as usual_metrics

_CLASSES_SHOWN = 30
_CONFUSION_CLASSES = 12
_CONFUSED_SHOWN = 20
_MACRO = {
    "f1_macro": metrics.f1_score,
    "precision_macro": metrics.precision_score,
    "recall_macro": metrics.recall_score,
}


@dataclass(slots=True)
class Scores:
    """Metrics that are defined on these rows, and of classes the details."""

    metrics: dict[str, float]
    classes: list[ClassScores] = field(default_factory=list)
    confusion: Confusion | None = None
    confused: list[tuple[Scalar, Scalar, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def score_classes(
    classes: Sequence[Scalar],
    expected: NDArray[np.intp],
    predicted: NDArray[np.intp],
    probabilities: NDArray[np.float64] | None,
) -> Scores:
    """By positions of `classes`; a prediction that is none of them is -1, and wrong.

    All as scikit-learn counts: the macro means are over the classes that are true or predicted
    somewhere, the balanced accuracy over those that are true.
    """
    present = np.unique(expected)
    everything = np.arange(len(classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        expected, predicted, labels=everything, zero_division=0
    )
    values = {
        "accuracy": float(np.mean(expected == predicted)),
        "balanced_accuracy": float(recall[present].mean()),
    }
    for name, score in _MACRO.items():
        values[name] = float(score(expected, predicted, average="macro", zero_division=0))
    if probabilities is not None:
        of_probabilities = usual_metrics(expected, Predicted(predicted, probabilities))
        values |= {k: v for k, v in of_probabilities.items() if k in ("roc_auc", "log_loss")}
    shares = np.round([precision, recall, f1], 6).T.tolist()
    scored = [
        ClassScores(
            label=classes[code], rows=int(support[code]),
            precision=shares[code][0], recall=shares[code][1], f1=shares[code][2],
        )
        for code in present.tolist()
    ]  # fmt: skip
    matrix = metrics.confusion_matrix(expected, predicted, labels=everything)
    confusion, confused = None, []
    if len(classes) <= _CONFUSION_CLASSES:
        confusion = Confusion(labels=list(classes), matrix=matrix.tolist())
    else:
        confused = _confused(classes, matrix)
    most = int(support.max())
    notes = [
        f"Always answering {classes[int(support.argmax())]!r} scores an accuracy of "
        f"{most / len(expected):.4f}."
    ]
    if len(present) < len(classes):
        absent = [str(classes[int(code)]) for code in everything if code not in present]
        notes.append(f"No row is of the classes {', '.join(absent[:10])}; they count nowhere.")
    worst_first = sorted(scored, key=lambda one: one.f1)[:_CLASSES_SHOWN]
    return Scores(values, worst_first, confusion, confused, notes)


def score_numbers(expected: NDArray[np.float64], predicted: NDArray[np.float64]) -> Scores:
    """Numbers against numbers; predictions that are not finite are left out, and told."""
    finite = np.isfinite(predicted)
    notes = []
    if not finite.all():
        notes.append(f"{int((~finite).sum())} predictions are not finite, and left out.")
        expected, predicted = expected[finite], predicted[finite]
    if not len(expected):
        return Scores({}, notes=notes)
    values = usual_metrics(expected, Predicted(predicted))
    values["max_error"] = float(np.abs(expected - predicted).max())
    if (expected != 0).all():
        values["mape"] = float(metrics.mean_absolute_percentage_error(expected, predicted))
    values = {name: value for name, value in values.items() if np.isfinite(value)}
    mean = float(np.abs(expected - expected.mean()).mean())
    notes.append(f"Always answering the mean scores an MAE of {mean:.6g}, and an R2 of 0.")
    return Scores(values, notes=notes)


def score_clusters(
    clusters: NDArray[np.int64],
    labels: NDArray[np.str_] | None,
    distances: NDArray[np.float64] | None,
) -> Scores:
    """How well clusters are set apart, by the distances to their centres where the model gives
    them, and how far they go with `labels` where there are any.

    `simplified_silhouette` holds the distance to a row's own centre against that to the next
    (Hruschka et al., 2006): from -1 to 1, like the silhouette, which would need all pairs of rows.
    """
    sizes = np.unique(clusters, return_counts=True)[1]
    values = {"clusters": float(len(sizes)), "smallest_share": float(sizes.min() / sizes.sum())}
    if distances is not None and distances.shape[1] > 1:
        own, other = np.sort(distances, axis=1)[:, :2].T
        values["simplified_silhouette"] = float(np.mean((other - own) / np.maximum(other, 1e-12)))
        values["mean_distance"] = float(own.mean())
    if labels is not None:
        values["adjusted_rand_index"] = float(metrics.adjusted_rand_score(labels, clusters))
        values["normalized_mutual_information"] = float(
            metrics.normalized_mutual_info_score(labels, clusters)
        )
    return Scores(values)


def score_anomalies(
    flags: NDArray[np.bool_],
    truth: NDArray[np.bool_] | None,
    scores: NDArray[np.float64] | None,
) -> Scores:
    """How many rows are flagged, and against known anomalies how rightly."""
    values = {"flagged_share": float(flags.mean())}
    if truth is None:
        return Scores(values)
    values["precision"] = float(metrics.precision_score(truth, flags, zero_division=0))
    values["recall"] = float(metrics.recall_score(truth, flags, zero_division=0))
    values["f1"] = float(metrics.f1_score(truth, flags, zero_division=0))
    if scores is not None and 0 < truth.sum() < len(truth):
        values["roc_auc"] = float(metrics.roc_auc_score(truth, scores[:, 0]))
        values["average_precision"] = float(metrics.average_precision_score(truth, scores[:, 0]))
    share = float(truth.mean())
    return Scores(values, notes=[f"{share:.2%} of the rows are anomalies: chance's precision."])


def _confused(
    classes: Sequence[Scalar], matrix: NDArray[np.int64]
) -> list[tuple[Scalar, Scalar, int]]:
    wrong = matrix * ~np.eye(len(classes), dtype=bool)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:_CONFUSED_SHOWN]
    pairs = [np.unravel_index(position, wrong.shape) for position in order]
    return [
        (classes[true], classes[taken], int(wrong[true, taken]))
        for true, taken in pairs
        if wrong[true, taken]
    ]
