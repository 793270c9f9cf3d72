"""Jobs of the types `clustering` and `anomaly`: no target is learned.

A target may be given all the same: a column that the model does not see, against which the
outcome is held.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn import metrics
from threadpoolctl import threadpool_limits

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.data.reading import read_frame
from mcp_hub.services.inference.encoding import Arrays
from mcp_hub.services.registry.views import InputField
from mcp_hub.services.scoring.digests import limit_for
from mcp_hub.services.scoring.measures import AnomalyTally, ClusterTally
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig, check_type
from mcp_hub.services.training.frameworks.sklearn.fitting import Steps
from mcp_hub.services.training.frameworks.sklearn.grouping import (
    ANOMALY_TYPES,
    CLUSTER_TYPES,
    Fitted,
    Kind,
    build,
    export,
)
from mcp_hub.services.training.frameworks.sklearn.profiles import profiles
from mcp_hub.services.training.frameworks.sklearn.training import LIBRARIES
from mcp_hub.services.training.frameworks.tabular.features import Features, take
from mcp_hub.services.training.frameworks.tabular.registering import (
    MODEL_FILE,
    register,
    versions_of,
)
from mcp_hub.services.training.frameworks.tabular.rows import Rows
from mcp_hub.services.training.frameworks.tabular.table import (
    encode_table,
    warnings_in_log,
    write_artifact,
)
from mcp_hub.services.training.frameworks.tabular.targets import MIN_ROWS, read_flags
from mcp_hub.services.training.run import Run

_MOST_CLUSTERS_TRIED = 10
_ROWS_TRIED = 5_000
_ROWS_SILHOUETTE = 2_000
_LEAST_GAIN = 0.05
_MOST_ANOMALOUS = 20
_DEVIATING = 3


def train(task: TrainingTask, run: Run) -> None:
    """Train as `SklearnFramework.train` says, on what `training.train` would learn from, too.

    Rows are held out, on which the model is scored and its export is compared.

    Raises:
        InvalidArgument: the data or the config cannot give a model.
        Conflict: the model cannot be exported, or does not agree with the estimator.
    """
    with warnings_in_log(run), threadpool_limits(limits=1):
        (_Clustering if task.type == "clustering" else _Anomalies)(task, run).run()


class _Unsupervised(ABC):
    """What both have in common: rows, features, the end."""

    kinds: Mapping[str, Kind]
    _steps: Steps

    def __init__(self, task: TrainingTask, run: Run) -> None:
        self._task = task
        self._run = run
        self._config = SklearnConfig.model_validate(dict(task.config))
        check_type(self._config, task.type)
        name = self._config.estimator
        self._name = next(iter(self.kinds)) if name == "auto" else name
        self._kind = self.kinds[self._name]
        self._random = np.random.default_rng(self._config.seed)

    def run(self) -> None:
        frame = self._frame()
        inputs, arrays, _ = encode_table(frame, self._task.target, self._config, self._run)
        order = self._random.permutation(frame.height)
        held = max(ceil(self._config.test_size * frame.height), 2)
        if frame.height - held < MIN_ROWS // 2:
            raise InvalidArgument(
                f"{held} of {frame.height} rows would be held out, which leaves too few to learn "
                "from.",
                f"Give more rows, or a test_size below {self._config.test_size:g}.",
            )
        learned, held_out = np.sort(order[held:]), np.sort(order[:held])
        for key, value in (
            ("seed", self._config.seed), ("test_size", self._config.test_size),
            ("estimator", self._name), ("rows_trained", len(learned)), ("rows_held_out", held),
        ):  # fmt: skip
            self._run.param(key, value)
        features = Features(inputs, self._config.max_text_features)
        self._matrix = features.matrix(features.fit(take(arrays, learned)), True)
        self._held_out = features.matrix(features.transform(take(arrays, held_out)), True)
        self._run.param("features", int(self._matrix.shape[1]))
        estimator = self._learn()
        self._run.param("params", self._chosen(estimator))
        fitted = Fitted(features, self._kind, estimator)
        self._report(fitted, frame, inputs, learned, held_out)
        self._finish(fitted, inputs, take(arrays, held_out))
        self._steps.advance()

    @abstractmethod
    def _learn(self) -> Any:
        """The fitted estimator."""

    @abstractmethod
    def _report(
        self, fitted: Fitted, frame: pl.DataFrame, inputs: list[InputField],
        learned: Rows, held_out: Rows,
    ) -> None:  # fmt: skip
        """Score the model on the held-out rows, and tell what it found."""

    def _frame(self) -> pl.DataFrame:
        """The rows; those that have a target, if one is given."""
        task = self._task
        frame = read_frame(task.dataset_file, task.dataset_format, task.dataset_options)
        if task.target is not None:
            if task.target not in frame.columns:
                hint = names_hint(task.target, frame.columns, "columns")
                raise InvalidArgument(f"The target {task.target!r} is no column.", hint)
            known = frame.filter(pl.col(task.target).is_not_null())
            if lost := frame.height - known.height:
                self._run.log(f"{lost} rows without a value of {task.target!r} are left out.")
            frame = known
        if frame.height < MIN_ROWS:
            raise InvalidArgument(
                f"There are {frame.height} rows; training needs at least {MIN_ROWS}.",
                "Give more rows.",
            )
        return frame

    def _chosen(self, estimator: Any) -> dict[str, Any]:
        return {
            name: value if isinstance(value, str | int | float | None) else str(value)
            for name, value in estimator.get_params(deep=False).items()
        }

    def _fitted(self, clusters: int, rows: Any) -> Any:
        """An estimator fitted on rows of features."""
        try:
            return build(self._kind, self._config, clusters).fit(rows)
        except (ValueError, TypeError) as error:
            name = self._kind.cls.__name__
            raise InvalidArgument(
                f"{name} refused its params or these rows: {error}",
                f"Check config.params against scikit-learn's documentation of {name}, or use "
                "another estimator.",
            ) from error

    def _sample(self, rows: Any, most: int) -> Any:
        if rows.shape[0] <= most:
            return rows
        return rows[np.sort(self._random.choice(rows.shape[0], most, replace=False))]

    def _tell(self, scores: Mapping[str, float], rows: int) -> None:
        for metric, score in scores.items():
            self._run.metric(metric, score)
        shown = ", ".join(f"{metric} {score:.4f}" for metric, score in scores.items())
        self._run.log(f"On {rows} held-out rows: {shown}")

    def _finish(self, fitted: Fitted, inputs: list[InputField], arrays: Arrays) -> None:
        path = self._task.folder / MODEL_FILE
        signature, agreement = export(fitted, inputs, arrays, self._held_out, path)
        self._run.param("versions", versions_of(LIBRARIES))
        register(self._run, path, signature, agreement, "the estimator")


class _Clustering(_Unsupervised):
    kinds = CLUSTER_TYPES

    def _learn(self) -> Any:
        tried = self._tried()
        self._steps = Steps(self._run, len(tried) + 3)
        sample = self._sample(self._matrix, _ROWS_TRIED)
        chosen = tried[0]
        if len(tried) > 1:
            found = {k: self._silhouette_of(k, sample) for k in tried}
            chosen = max(found, key=lambda k: found[k])
            shown = ", ".join(f"{k}: {value:.3f}" for k, value in found.items())
            self._run.log(f"Mean silhouette by the number of clusters: {shown}. Taken: {chosen}.")
        self._baseline = self._chance(chosen, sample)
        self._steps.advance()
        estimator = self._fitted(chosen, self._matrix)
        self._steps.advance()
        return estimator

    def _tried(self) -> list[int]:
        params = self._config.params
        given = params.get("n_clusters", params.get("n_components", self._config.clusters))
        distinct = len(np.unique(_dense(self._sample(self._matrix, _ROWS_TRIED)), axis=0))
        if given is not None:
            if not isinstance(given, int) or not 2 <= given <= distinct:
                raise InvalidArgument(
                    f"{given!r} clusters were asked for, and there are {distinct} distinct rows.",
                    "Give a number from 2 to that of the distinct rows, or leave it out.",
                )
            return [given]
        most = min(_MOST_CLUSTERS_TRIED, distinct - 1, self._matrix.shape[0] // 5)
        if most < 2:
            raise InvalidArgument(
                f"There are {distinct} distinct rows, which make no clusters.",
                "Give more rows, or other columns.",
            )
        return list(range(2, most + 1))

    def _silhouette_of(self, clusters: int, sample: Any) -> float:
        labels = self._fitted(clusters, sample).predict(sample)
        value = _silhouette(sample, labels, self._config.seed)
        self._run.metric("silhouette_by_clusters", value, step=clusters)
        self._steps.advance()
        return value

    def _chance(self, clusters: int, sample: Any) -> float:
        """The silhouette of as many clusters where no column tells of another: each is shuffled."""
        shuffled = _dense(sample).copy()
        for column in range(shuffled.shape[1]):
            self._random.shuffle(shuffled[:, column])
        labels = self._fitted(clusters, shuffled).predict(shuffled)
        return _silhouette(shuffled, labels, self._config.seed)

    def _report(
        self, fitted: Fitted, frame: pl.DataFrame, inputs: list[InputField],
        learned: Rows, held_out: Rows,
    ) -> None:  # fmt: skip
        labels, table = fitted.answers(self._held_out)
        scores: dict[str, float] = {}
        if 1 < len(np.unique(labels)) < len(labels):
            scores["silhouette"] = _silhouette(self._held_out, labels, self._config.seed)
            rows = _dense(self._held_out)
            scores["davies_bouldin"] = float(metrics.davies_bouldin_score(rows, labels))
        if hasattr(fitted.estimator, "inertia_"):
            scores["inertia"] = float(fitted.estimator.inertia_)
        else:
            scores["log_likelihood"] = float(fitted.estimator.score(self._held_out))
        scores["baseline_silhouette"] = self._baseline
        truth = None
        if self._task.target is not None:
            truth = frame[held_out][self._task.target].cast(pl.String).to_numpy()
        distances = table if fitted.gives_distances else None
        tally = ClusterTally()
        tally.add(labels, truth, distances)
        scores |= tally.scores().metrics
        self._tell(scores, len(held_out))
        if scores.get("silhouette", -1.0) < self._baseline + _LEAST_GAIN:
            self._run.log(
                f"Warning: clusters of shuffled columns have a silhouette of {self._baseline:.3f}: "
                "there may be no clusters in this data."
            )
        of_learned = fitted.answers(self._matrix)[0]
        told = profiles(frame[learned], inputs, of_learned)
        write_artifact(self._task, self._run, "clusters.json", {"clusters": told})
        for one in told:
            self._run.log(f"Cluster {one['cluster']}: {one['rows']} rows; {one['summary']}.")
        summaries = {str(one["cluster"]): one["summary"] for one in told}
        self._run.param("clusters", summaries)


class _Anomalies(_Unsupervised):
    kinds = ANOMALY_TYPES

    def _learn(self) -> Any:
        self._steps = Steps(self._run, 3)
        rows = self._sample(self._matrix, self._kind.most_rows)
        if rows.shape[0] < self._matrix.shape[0]:
            self._run.log(f"{self._name} learns from {rows.shape[0]} of the rows, to save time.")
        estimator = self._fitted(0, rows)
        self._steps.advance()
        return estimator

    def _report(
        self, fitted: Fitted, frame: pl.DataFrame, inputs: list[InputField],
        learned: Rows, held_out: Rows,
    ) -> None:  # fmt: skip
        flags, scores = fitted.answers(self._held_out)
        truth = None
        if self._task.target is not None:
            truth = read_flags(frame[self._task.target])[held_out]
        tally = AnomalyTally(limit_for(1))
        tally.add(flags, truth, scores[:, None])
        told = tally.scores()
        if truth is not None:
            told.metrics["baseline_average_precision"] = float(truth.mean())
        self._tell(told.metrics, len(held_out))
        for note in told.notes:
            self._run.log(note)
        if not flags.any() or flags.all():
            self._run.log(
                f"Warning: {'every' if flags.all() else 'no'} held-out row is flagged; give "
                "config.contamination, the share to flag."
            )
        order = np.argsort(-scores, kind="stable")[:_MOST_ANOMALOUS]
        of_inputs = [field.name for field in inputs if field.kind == "number"]
        rows = [
            {
                "row": int(held_out[at]), "score": round(float(scores[at]), 6),
                "deviating": _deviating(frame, of_inputs, int(held_out[at])),
            }
            for at in order
        ]  # fmt: skip
        write_artifact(
            self._task,
            self._run,
            "anomalies.json",
            {"held_out": len(held_out), "most_anomalous": rows},
        )
        self._steps.advance()


def _deviating(frame: pl.DataFrame, columns: list[str], row: int) -> dict[str, float]:
    """The columns in which a row is the most standard deviations from the mean, and how many."""
    found: dict[str, float] = {}
    for name in columns:
        values = frame[name].cast(pl.Float64, strict=False)
        spread, value = values.std(), values[row]
        if isinstance(spread, float) and spread and value is not None:
            found[name] = round((value - float(values.mean() or 0)) / spread, 2)  # type: ignore[arg-type]
    largest = sorted(found, key=lambda name: -abs(found[name]))[:_DEVIATING]
    return {name: found[name] for name in largest}


def _silhouette(rows: Any, labels: NDArray[Any], seed: int) -> float:
    """The mean silhouette, of a sample where there are many rows; -1 of a single cluster."""
    sample = np.random.default_rng(seed).permutation(rows.shape[0])[:_ROWS_SILHOUETTE]
    present = len(np.unique(labels[sample]))
    if not 1 < present < len(sample):
        return -1.0
    return float(metrics.silhouette_score(rows[sample], labels[sample]))


def _dense(rows: Any) -> NDArray[np.float64]:
    return np.asarray(rows if isinstance(rows, np.ndarray) else rows.toarray())
