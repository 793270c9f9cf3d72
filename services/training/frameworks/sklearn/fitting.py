"""Splitting, comparing by cross-validation, and fitting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.model_selection import KFold, StratifiedKFold

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig
from mcp_hub.services.training.frameworks.sklearn.estimators import (
    MANY_ROWS,
    EstimatorType,
    Shape,
    build,
)
from mcp_hub.services.training.frameworks.tabular.features import Encoded, Features
from mcp_hub.services.training.frameworks.tabular.reports import (
    Predicted,
    better,
    measure,
)
from mcp_hub.services.training.frameworks.tabular.rows import Data, Rows
from mcp_hub.services.training.frameworks.tabular.targets import Target
from mcp_hub.services.training.run import Run

Fold = tuple[Rows, Rows]
"""Rows to learn from, and rows to judge by."""


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted estimator with the features before it, and the scale of its target."""

    features: Features
    kind: EstimatorType
    estimator: Any
    shift: float = 0.0
    scale: float = 1.0

    @property
    def members(self) -> "tuple[Model, ...]":
        """The estimators that decide: this one."""
        return (self,)

    def predict(self, encoded: Encoded, classes: int) -> Predicted:
        """Numbers, or of a classifier the classes' positions and probabilities [rows, classes].

        Raises:
            InvalidArgument: the predictions are not finite, since the fit diverged.
        """
        matrix = self.features.matrix(encoded, self.kind.scales_inputs)
        values = self.estimator.predict(matrix)
        if not classes:
            values = values.astype(np.float64).reshape(-1) * self.scale + self.shift
            return Predicted(self._finite(values))
        # A class that has no row in a fold is not among the estimator's.
        probabilities = np.zeros((len(values), classes))
        probabilities[:, self.estimator.classes_] = self.estimator.predict_proba(matrix)
        return Predicted(values, self._finite(probabilities))

    def _finite(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not np.isfinite(values).all():
            raise InvalidArgument(
                f"{self.kind.cls.__name__} diverged: its predictions are not finite.",
                "Give gentler params, such as a lower learning rate, or use another estimator.",
            )
        return values


def shape_of(data: Data) -> Shape:
    """What the choice of an estimator and its defaults looks at."""
    counts = np.bincount(data.target.values) if data.classes else np.zeros(1, dtype=np.int64)
    kinds = frozenset(field.kind for field in data.inputs)
    rarest = int(counts[counts > 0].min(initial=len(data)))
    return Shape(len(data), data.width, kinds, data.classes, rarest)


class Steps:
    """Counts what is done of a total, and reports it."""

    def __init__(self, run: Run, total: int) -> None:
        self._run = run
        self._total = total
        self._done = 0
        self.advance(0)

    def advance(self, steps: int = 1) -> None:
        """Report that many steps more as done."""
        self._done += steps
        self._run.progress(self._done, self._total)

    def part(self, share: float) -> None:
        """Report that much of the present step as done."""
        self._run.progress(self._done + share, self._total)


@dataclass(slots=True)
class Comparison:
    """The scores of each candidate, a fold each, by one metric."""

    metric: str
    scores: dict[str, list[float]] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """The mean score of each candidate that has any."""
        return {name: float(np.mean(scores)) for name, scores in self.scores.items() if scores}

    def best(self) -> str:
        """The first candidate within one standard error of the best mean.

        The candidates are in the order of their simplicity, and a difference within the noise of
        the folds is no reason for the less simple one (Breiman et al., CART, 1984, 3.4.3).

        Raises:
            InvalidArgument: the metric is defined for none of the folds.
        """
        means = self.means()
        if not means:
            raise InvalidArgument(
                f"{self.metric} is not defined on any fold: they lack classes.",
                "Select by another metric, give more rows of the rare classes, or set cv to 0.",
            )
        best = next(iter(means))
        for name, mean in means.items():
            if better(self.metric, mean, means[best]):
                best = name
        scores = self.scores[best]
        error = float(np.std(scores, ddof=1)) / len(scores) ** 0.5 if len(scores) > 1 else 0.0
        return next(name for name, mean in means.items() if abs(mean - means[best]) <= error)


def compare(
    candidates: Mapping[str, EstimatorType],
    data: Data,
    folds: Sequence[Fold],
    config: SklearnConfig,
    metric: str,
    run: Run,
    steps: Steps,
) -> Comparison:
    """Cross-validate the candidates, reporting `cv_METRIC.NAME`: the mean over the folds so far.

    Where there is one candidate, `cv_METRIC` is the same: a sweep prunes by it.
    """
    comparison = Comparison(metric, {name: [] for name in candidates})
    for number, (fit_rows, test_rows) in enumerate(folds):
        learned, held_out = data.part(fit_rows), data.part(test_rows)
        if data.classes and len(np.unique(learned.target.values)) < 2:
            steps.advance(len(candidates))
            continue
        features = Features(data.inputs, config.max_text_features)
        encoded = features.fit(learned.arrays)
        encoded_held_out = features.transform(held_out.arrays)
        for name, kind in candidates.items():
            model = fit(features, encoded, learned, kind, config)
            predicted = model.predict(encoded_held_out, data.classes)
            score = measure(metric, held_out.target.values, predicted)
            if score is not None:
                comparison.scores[name].append(score)
                mean = comparison.means()[name]
                run.metric(f"cv_{metric}.{name}", mean, step=number)
                if len(candidates) == 1:
                    run.metric(f"cv_{metric}", mean, step=number)
            steps.advance()
    return comparison


def make_folds(target: Target, config: SklearnConfig) -> list[Fold]:
    """The folds, shuffled by the seed; no more than the rarest class has rows, but 2.

    Those of numbers have two rows or more: R² is not defined on one.
    """
    rows = np.arange(len(target.values))
    if not config.cv:
        return []
    if target.classes is None:
        count = max(2, min(config.cv, len(rows) // 2))
        splitter: Any = KFold(count, shuffle=True, random_state=config.seed)
        return list(splitter.split(rows))
    counts = np.bincount(target.values)
    rarest = int(counts[counts > 0].min())
    count = max(2, min(config.cv, rarest))
    splitter = StratifiedKFold(count, shuffle=True, random_state=config.seed)
    return list(splitter.split(rows, target.values))


def sample_rows(target: Target, config: SklearnConfig) -> Rows:
    """At most `MANY_ROWS` rows drawn by the seed, at least two of every class."""
    rows = np.arange(len(target.values))
    if len(rows) <= MANY_ROWS:
        return rows
    shuffled = np.random.default_rng(config.seed).permutation(rows)
    if target.classes is None:
        return np.sort(shuffled[:MANY_ROWS])
    share = MANY_ROWS / len(rows)
    drawn = []
    for code in range(len(target.classes)):
        members = shuffled[target.values[shuffled] == code]
        drawn.append(members[: max(2, int(share * len(members)))])
    return np.sort(np.concatenate(drawn))


def fit(
    features: Features,
    encoded: Encoded,
    data: Data,
    kind: EstimatorType,
    config: SklearnConfig,
    on_stage: Callable[[int, int, float], None] | None = None,
) -> Model:
    """Fit an estimator on encoded rows; `on_stage(stage, stages, loss)` is told of boosting's.

    Raises:
        InvalidArgument: the estimator refuses the `params` of `config`, or diverges.
    """
    values = data.target.values
    shift, scale = 0.0, 1.0
    if kind.scales_target:
        shift, scale = float(values.mean()), float(values.std()) or 1.0
        values = (values - shift) / scale
    try:
        estimator = build(kind, config, shape_of(data))
        arguments: dict[str, Any] = {}
        boosts = isinstance(estimator, GradientBoostingClassifier | GradientBoostingRegressor)
        if boosts and on_stage:
            arguments["monitor"] = _monitor(on_stage, estimator.n_estimators)
        estimator.fit(features.matrix(encoded, kind.scales_inputs), values, **arguments)
    except (ValueError, TypeError) as error:
        name = kind.cls.__name__
        raise InvalidArgument(
            f"{name} refused its params or these rows: {error}",
            f"Check config.params against scikit-learn's documentation of {name}, or use another "
            "estimator.",
        ) from error
    return Model(features, kind, estimator, shift, scale)


def _monitor(on_stage: Callable[[int, int, float], None], stages: int) -> Callable[..., bool]:
    def monitor(stage: int, estimator: Any, _: Any) -> bool:
        on_stage(stage, stages, float(estimator.train_score_[stage]))
        return False

    return monitor
