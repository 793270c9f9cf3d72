"""How good predictions are: metrics, the confusion matrix, the residuals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from mcp_hub.services.registry.views import Scalar

CLASSIFICATION_METRICS = (
    "accuracy", "f1_macro", "precision_macro", "recall_macro", "roc_auc", "log_loss",
)  # fmt: skip
REGRESSION_METRICS = ("r2", "rmse", "mae", "median_absolute_error")

_LOWER_IS_BETTER = {"log_loss", "rmse", "mae", "median_absolute_error"}
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_LOGGED_CLASSES = 12


@dataclass(frozen=True, slots=True)
class Predicted:
    """Numbers, or positions of classes with their probabilities float64 [rows, classes]."""

    values: NDArray[Any]
    probabilities: NDArray[np.float64] | None = None


def better(metric: str, score: float, than: float) -> bool:
    """Whether a score is better by more than rounding."""
    return gain(metric, score, than) > 1e-9


def gain(metric: str, score: float, than: float) -> float:
    """By how much a score is better; negative where it is worse."""
    return than - score if metric in _LOWER_IS_BETTER else score - than


def measure(metric: str, expected: NDArray[Any], predicted: Predicted) -> float | None:
    """One metric, or None where it is not defined, or too large for a number.

    The area under the ROC curve of several classes is the mean over one class against the rest;
    it needs rows of every class. R² needs two rows.
    """
    values, probabilities = predicted.values, predicted.probabilities
    if probabilities is None:
        score = _measure_numbers(metric, expected, values)
        return score if score is not None and np.isfinite(score) else None
    if metric == "accuracy":
        return float(metrics.accuracy_score(expected, values))
    if metric == "log_loss":
        labels = np.arange(probabilities.shape[1])
        return float(metrics.log_loss(expected, _normalised(probabilities), labels=labels))
    if metric == "roc_auc":
        return _roc_auc(expected, probabilities)
    macro = {
        "f1_macro": metrics.f1_score,
        "precision_macro": metrics.precision_score,
        "recall_macro": metrics.recall_score,
    }[metric]
    return float(macro(expected, values, average="macro", zero_division=0))


def evaluate(expected: NDArray[Any], predicted: Predicted) -> dict[str, float]:
    """All metrics that are defined."""
    names = REGRESSION_METRICS if predicted.probabilities is None else CLASSIFICATION_METRICS
    scores = {name: measure(name, expected, predicted) for name in names}
    return {name: score for name, score in scores.items() if score is not None}


def baseline_accuracy(expected: NDArray[Any]) -> float:
    """The accuracy of always saying the most frequent class."""
    return float(np.bincount(expected).max() / len(expected))


def doubts(expected: NDArray[Any], predicted: NDArray[Any], classes: list[Scalar]) -> list[str]:
    """What an accuracy does not show: that a constant does as well, and what was not learned or
    not tried."""
    counts = np.bincount(expected, minlength=len(classes))
    taken = np.bincount(predicted, minlength=len(classes))
    told = []
    frequent = int(counts.argmax())
    accuracy, baseline = float((expected == predicted).mean()), baseline_accuracy(expected)
    if accuracy <= baseline:
        told.append(
            f"it is right in {accuracy:.4f} of the rows, and always saying {classes[frequent]!r} "
            f"in {baseline:.4f}."
        )
    missed = [
        f"{classes[code]!r} ({n} rows)" for code, n in enumerate(counts) if n > taken[code] == 0
    ]
    if missed:
        told.append(
            f"never predicted: {', '.join(missed[:_LOGGED_CLASSES])}. More rows of them may help, "
            "or weights of the classes."
        )
    absent = [repr(classes[code]) for code, n in enumerate(counts) if not n]
    if absent:
        told.append(f"not among the held-out rows: {', '.join(absent[:_LOGGED_CLASSES])}.")
    return told


def confusion_matrix(
    expected: NDArray[Any], predicted: NDArray[Any], classes: list[Scalar]
) -> dict[str, Any]:
    """`{labels, matrix}`: a row for each true class, a column for each predicted one."""
    matrix = metrics.confusion_matrix(expected, predicted, labels=np.arange(len(classes)))
    return {"labels": classes, "matrix": matrix.tolist()}


def confusion_lines(confusion: dict[str, Any]) -> list[str]:
    """The confusion matrix for the log; of many classes, the most frequent confusions."""
    labels, matrix = confusion["labels"], np.array(confusion["matrix"])
    if len(labels) <= _LOGGED_CLASSES:
        lines = [
            f"  {label!s:.20}: {row}" for label, row in zip(labels, matrix.tolist(), strict=True)
        ]
        return ["Confusion matrix (row: true class, column: predicted):", *lines]
    wrong = matrix * ~np.eye(len(labels), dtype=bool)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:_LOGGED_CLASSES]
    pairs = [np.unravel_index(position, wrong.shape) for position in order]
    lines = [
        f"  {labels[true]!s:.20} taken for {labels[taken]!s:.20}: {wrong[true, taken]}"
        for true, taken in pairs
        if wrong[true, taken]
    ]
    return ["Most frequent confusions on the held-out rows:", *(lines or ["  none"])]


def residual_summary(expected: NDArray[Any], predicted: NDArray[Any]) -> dict[str, Any]:
    """The residuals, true less predicted: mean, standard deviation, quantiles, the worst rows.

    `worst` gives the true and the predicted value of up to five rows.
    """
    residuals = expected - predicted
    worst = np.argsort(-np.abs(residuals), kind="stable")[:5]
    quantiles = np.quantile(residuals, _QUANTILES)
    return {
        "rows": len(residuals),
        "mean": float(residuals.mean()),
        "std": float(residuals.std()),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(_QUANTILES, quantiles, strict=True)},
        "worst": [[float(expected[row]), float(predicted[row])] for row in worst],
    }


def _measure_numbers(metric: str, expected: NDArray[Any], predicted: NDArray[Any]) -> float | None:
    if metric == "r2":
        if len(expected) < 2:
            return None
        return float(metrics.r2_score(expected, predicted))
    if metric == "rmse":
        return float(np.sqrt(np.mean((expected - predicted) ** 2)))
    if metric == "mae":
        return float(metrics.mean_absolute_error(expected, predicted))
    return float(metrics.median_absolute_error(expected, predicted))


def _roc_auc(expected: NDArray[Any], probabilities: NDArray[np.float64]) -> float | None:
    classes = probabilities.shape[1]
    if len(np.unique(expected)) < classes:
        return None
    if classes == 2:
        return float(metrics.roc_auc_score(expected, probabilities[:, 1]))
    scores = [
        metrics.roc_auc_score(expected == code, probabilities[:, code]) for code in range(classes)
    ]
    return float(np.mean(scores))


def _normalised(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    totals = probabilities.sum(axis=1, keepdims=True)
    return np.asarray(probabilities / np.where(totals > 0, totals, 1))
