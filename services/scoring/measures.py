"""How good a model's answers are, by its type, from answers that come a part at a time.

What is kept of them is counts, sums and digests, whose size does not grow with the rows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from mcp_hub.services.registry.views import Scalar
from mcp_hub.services.scoring.digests import (
    Digest,
    are_exact,
    area_under_roc,
    average_precision,
)
from mcp_hub.services.scoring.views import ClassScores, Confusion

_CLASSES_SHOWN = 30
_CONFUSION_CLASSES = 12
_CONFUSED_SHOWN = 20
_MACRO = {
    "f1_macro": metrics.f1_score,
    "precision_macro": metrics.precision_score,
    "recall_macro": metrics.recall_score,
}
_SMALLEST = float(np.finfo(np.float64).eps)


@dataclass(slots=True)
class Scores:
    """Metrics that are defined on these rows, and of classes the details."""

    metrics: dict[str, float]
    classes: list[ClassScores] = field(default_factory=list)
    confusion: Confusion | None = None
    confused: list[tuple[Scalar, Scalar, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class ClassTally:
    """Classes against classes, by their codes, which are their positions; -1 is none of them.

    With `probable`, the number of classes of which there are probabilities, also those.
    """

    def __init__(self, limit: int, probable: int = 0) -> None:
        self._pairs: Counter[tuple[int, int]] = Counter()
        # Of two classes, the second one tells all.
        self._digests = [Digest(limit, 2) for _ in range(1 if probable == 2 else probable)]
        self._loss = 0.0
        self._rows = 0
        self._odd = 0

    def add(
        self,
        expected: NDArray[np.intp],
        predicted: NDArray[np.intp],
        probabilities: NDArray[np.float64] | None,
    ) -> None:
        """Codes [rows], those that are expected not -1, and probabilities [rows, classes]."""
        pairs, counts = np.unique(np.stack([expected, predicted]), axis=1, return_counts=True)
        for true, taken, rows in zip(*pairs.tolist(), counts.tolist(), strict=True):
            self._pairs[true, taken] += rows
        if probabilities is None:
            return
        sound = np.isfinite(probabilities).all(axis=1)
        self._odd += int((~sound).sum())
        expected, probabilities = expected[sound], probabilities[sound]
        totals = probabilities.sum(axis=1)
        of_true = probabilities[np.arange(len(expected)), expected] / np.where(
            totals > 0, totals, 1
        )
        self._loss -= float(np.log(np.clip(of_true, _SMALLEST, 1 - _SMALLEST)).sum())
        self._rows += len(expected)
        binary = len(self._digests) == 1
        for number, digest in enumerate(self._digests, start=binary):
            digest.add(probabilities[:, number], (expected == number).astype(np.intp))

    def scores(self, classes: Sequence[Scalar], rank: NDArray[np.intp] | None = None) -> Scores:
        """As scikit-learn counts: the macro means are over the classes that are true or predicted
        somewhere, the balanced accuracy over those that are true. The area under the ROC curve of
        several classes is the mean over one against the rest; it needs rows of every class.

        `rank` are the positions in `classes` that the codes have there, if they have others.
        """
        pairs = np.array(list(self._pairs), dtype=np.intp).T
        if rank is not None:
            pairs = np.append(rank, -1)[pairs]
        expected, predicted = pairs
        scores = _class_scores(classes, expected, predicted, np.array(list(self._pairs.values())))
        if self._odd:
            scores.notes.append(
                f"{self._odd} rows have probabilities that are no numbers; roc_auc and log_loss "
                "are without them."
            )
        if self._digests and self._rows:
            if all(digest.points()[1].sum(axis=0).all() for digest in self._digests):
                areas = [area_under_roc(digest) for digest in self._digests]
                scores.metrics["roc_auc"] = float(np.mean(areas))
                scores.notes += _approximated(self._digests, "roc_auc")
            scores.metrics["log_loss"] = self._loss / self._rows
        return scores


class NumberTally:
    """Numbers against numbers; predictions that are not finite are left out, and told."""

    def __init__(self, limit: int) -> None:
        self._rows = 0
        self._lost = 0
        self._mean = 0.0
        self._spread = 0.0
        self._squares = self._errors = self._shares = self._largest = 0.0
        self._has_zero = False
        self._expected = Digest(limit)
        self._distances = Digest(limit)

    def add(self, expected: NDArray[np.float64], predicted: NDArray[np.float64]) -> None:
        """True and predicted numbers [rows], the true ones finite."""
        finite = np.isfinite(predicted)
        self._lost += int((~finite).sum())
        expected, predicted = expected[finite], predicted[finite]
        rows = len(expected)
        if not rows:
            return
        # Chan, Golub & LeVeque (1983): the sum of squares about the mean of two parts together.
        mean = float(expected.mean())
        apart = mean - self._mean
        total = self._rows + rows
        self._spread += float(((expected - mean) ** 2).sum())
        self._spread += apart**2 * self._rows * rows / total
        self._mean += apart * rows / total
        self._rows = total
        distances = np.abs(expected - predicted)
        self._squares += float((distances**2).sum())
        self._errors += float(distances.sum())
        self._largest = max(self._largest, float(distances.max()))
        self._shares += float((distances / np.maximum(np.abs(expected), _SMALLEST)).sum())
        self._has_zero |= bool((expected == 0).any())
        self._expected.add(expected)
        self._distances.add(distances)

    def scores(self) -> Scores:
        """R² needs two rows, and the mean of the errors' shares no true number that is 0."""
        notes = []
        if self._lost:
            notes.append(f"{self._lost} predictions are not finite, and left out.")
        if not self._rows:
            return Scores({}, notes=notes)
        values = {}
        if self._rows > 1:
            values["r2"] = 1 - self._squares / self._spread if self._spread else 0.0
            if not self._squares:
                values["r2"] = 1.0
        values["rmse"] = float(np.sqrt(self._squares / self._rows))
        values["mae"] = self._errors / self._rows
        values["median_absolute_error"] = self._distances.median()
        values["max_error"] = self._largest
        if not self._has_zero:
            values["mape"] = self._shares / self._rows
        values = {name: value for name, value in values.items() if isfinite(value)}
        points, counts = self._expected.points()
        mean = float((np.abs(points - self._mean) * counts[:, 0]).sum() / self._rows)
        notes.append(f"Always answering the mean scores an MAE of {mean:.6g}, and an R2 of 0.")
        notes += _approximated([self._distances], "median_absolute_error")
        return Scores(values, notes=notes)


class ClusterTally:
    """How well clusters are set apart, by the distances to their centres where the model gives
    them, and how far they go with labels where there are any."""

    def __init__(self) -> None:
        self._sizes: Counter[Any] = Counter()
        self._pairs: Counter[tuple[Any, Any]] = Counter()
        self._silhouettes = self._distances = 0.0
        self._has_distances = False

    def add(
        self,
        clusters: NDArray[Any],
        labels: NDArray[Any] | None,
        distances: NDArray[np.float64] | None,
    ) -> None:
        """The cluster and the label of each row [rows], and its distances [rows, clusters]."""
        self._sizes.update(clusters.tolist())
        if labels is not None:
            self._pairs.update(zip(labels.tolist(), clusters.tolist(), strict=True))
        if distances is not None and distances.shape[1] > 1:
            self._has_distances = True
            own, other = np.sort(distances, axis=1)[:, :2].T
            self._silhouettes += float(((other - own) / np.maximum(other, 1e-12)).sum())
            self._distances += float(own.sum())

    def scores(self) -> Scores:
        """`simplified_silhouette` holds the distance to a row's own centre against that to the
        next (Hruschka et al., 2006): from -1 to 1, like the silhouette, which needs all pairs of
        rows."""
        rows = self._sizes.total()
        values = {
            "clusters": float(len(self._sizes)),
            "smallest_share": min(self._sizes.values()) / rows,
        }
        if self._has_distances:
            values["simplified_silhouette"] = self._silhouettes / rows
            values["mean_distance"] = self._distances / rows
        if self._pairs:
            values["adjusted_rand_index"] = _adjusted_rand_index(self._pairs, self._sizes)
            values["normalized_mutual_information"] = _mutual_information(self._pairs, self._sizes)
        return Scores(values)


class AnomalyTally:
    """How many rows are flagged, and against known anomalies how rightly."""

    def __init__(self, limit: int) -> None:
        self._flagged = 0
        self._rows = 0
        self._pairs = np.zeros((2, 2), dtype=np.int64)
        self._digest = Digest(limit, 2)
        self._has_scores = True

    def add(
        self,
        flags: NDArray[np.bool_],
        truth: NDArray[np.bool_] | None,
        scores: NDArray[np.float64] | None,
    ) -> None:
        """Whether each row [rows] is flagged and is an anomaly, and its scores [rows, 1]."""
        self._rows += len(flags)
        self._flagged += int(flags.sum())
        if truth is None:
            return
        np.add.at(self._pairs, (truth.astype(np.intp), flags.astype(np.intp)), 1)
        if scores is None:
            self._has_scores = False
        else:
            finite = np.isfinite(scores[:, 0])
            self._digest.add(scores[finite, 0], truth[finite].astype(np.intp))

    def scores(self) -> Scores:
        """What is known of them."""
        values = {"flagged_share": self._flagged / self._rows}
        normal, anomalous = self._pairs.tolist()
        rows = sum(normal) + sum(anomalous)
        if not rows:
            return Scores(values)
        hits = anomalous[1]
        values["precision"] = hits / max(1, hits + normal[1])
        values["recall"] = hits / max(1, sum(anomalous))
        values["f1"] = 2 * hits / max(1, 2 * hits + normal[1] + anomalous[0])
        notes = [f"{sum(anomalous) / rows:.2%} of the rows are anomalies: chance's precision."]
        if self._has_scores and self._digest.points()[1].sum(axis=0).all():
            values["roc_auc"] = area_under_roc(self._digest)
            values["average_precision"] = average_precision(self._digest)
            notes += _approximated([self._digest], "roc_auc and average_precision")
        return Scores(values, notes=notes)


def _class_scores(
    classes: Sequence[Scalar],
    expected: NDArray[np.intp],
    predicted: NDArray[np.intp],
    rows: NDArray[np.int64],
) -> Scores:
    """By positions of `classes`, each pair of which `rows` have."""
    present = np.unique(expected)
    everything = np.arange(len(classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        expected, predicted, labels=everything, sample_weight=rows, zero_division=0
    )
    values = {
        "accuracy": float(rows[expected == predicted].sum() / rows.sum()),
        "balanced_accuracy": float(recall[present].mean()),
    }
    for name, score in _MACRO.items():
        value = score(expected, predicted, average="macro", sample_weight=rows, zero_division=0)
        values[name] = float(value)
    shares = np.round([precision, recall, f1], 6).T.tolist()
    scored = [
        ClassScores(
            label=classes[code], rows=int(support[code]),
            precision=shares[code][0], recall=shares[code][1], f1=shares[code][2],
        )
        for code in present.tolist()
    ]  # fmt: skip
    matrix = metrics.confusion_matrix(expected, predicted, labels=everything, sample_weight=rows)
    confusion, confused = None, []
    if len(classes) <= _CONFUSION_CLASSES:
        confusion = Confusion(labels=list(classes), matrix=matrix.tolist())
    else:
        confused = _confused(classes, matrix)
    most = support.max()
    notes = [
        f"Always answering {classes[int(support.argmax())]!r} scores an accuracy of "
        f"{most / rows.sum():.4f}."
    ]
    if len(present) < len(classes):
        absent = [str(classes[int(code)]) for code in everything if code not in present]
        notes.append(f"No row is of the classes {', '.join(absent[:10])}; they count nowhere.")
    worst_first = sorted(scored, key=lambda one: one.f1)[:_CLASSES_SHOWN]
    return Scores(values, worst_first, confusion, confused, notes)


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


def _adjusted_rand_index(pairs: Counter[tuple[Any, Any]], sizes: Counter[Any]) -> float:
    """Hubert & Arabie (1985), from how many pairs of rows go together in both, or in one."""
    rows = sizes.total()
    together = sum(count * (count - 1) for count in pairs.values())
    by_label = sum(count * (count - 1) for count in _label_sizes(pairs).values())
    by_cluster = sum(count * (count - 1) for count in sizes.values())
    if by_label == by_cluster == together:
        return 1.0
    by_chance = by_label * by_cluster / (rows * (rows - 1))
    return (together - by_chance) / ((by_label + by_cluster) / 2 - by_chance)


def _mutual_information(pairs: Counter[tuple[Any, Any]], sizes: Counter[Any]) -> float:
    """The mutual information, as a share of the mean of both entropies."""
    labels = _label_sizes(pairs)
    if len(labels) == len(sizes) == 1:
        return 1.0
    rows = sizes.total()
    counts = np.array(list(pairs.values()), dtype=np.float64)
    products = np.array([float(labels[label]) * sizes[cluster] for label, cluster in pairs])
    shared = float((counts / rows * (np.log(counts) + np.log(rows) - np.log(products))).sum())
    entropies = 0.0
    for kind in (labels, sizes):
        shares = np.array(list(kind.values())) / rows
        entropies -= float((shares * np.log(shares)).sum())
    return max(0.0, shared / (entropies / 2))


def _label_sizes(pairs: Counter[tuple[Any, Any]]) -> Counter[Any]:
    sizes: Counter[Any] = Counter()
    for (label, _), count in pairs.items():
        sizes[label] += count
    return sizes


def _approximated(digests: Sequence[Digest], what: str) -> list[str]:
    if are_exact(digests):
        return []
    return [f"{what}: close, not exact; there are too many different values to keep each."]
