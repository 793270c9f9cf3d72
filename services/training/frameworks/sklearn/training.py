"""A job of the framework `sklearn`, from the data set's file to a model that is served."""

import json
import platform
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import polars as pl
from threadpoolctl import threadpool_limits

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.data.reading import read_frame
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig
from mcp_hub.services.training.frameworks.sklearn.columns import (
    Columns,
    choose_columns,
    encode,
    plain_values,
)
from mcp_hub.services.training.frameworks.sklearn.estimators import (
    EstimatorType,
    candidates,
    chosen_params,
)
from mcp_hub.services.training.frameworks.sklearn.export import check_agreement, export
from mcp_hub.services.training.frameworks.sklearn.features import Features, width_of
from mcp_hub.services.training.frameworks.sklearn.fitting import (
    Data,
    Model,
    Steps,
    compare,
    fit,
    sample_rows,
    split_rows,
)
from mcp_hub.services.training.frameworks.sklearn.graph import OPSET
from mcp_hub.services.training.frameworks.sklearn.reports import (
    Predicted,
    confusion_lines,
    confusion_matrix,
    evaluate,
    residual_summary,
    selecting_metric,
)
from mcp_hub.services.training.frameworks.sklearn.targets import read_target
from mcp_hub.services.training.run import Run

MODEL_FILE = "model.onnx"
_NAMES_TOLD = 100
_LIBRARIES = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy", "polars")


def train(task: TrainingTask, run: Run) -> None:
    """Train as `SklearnFramework.train` says.

    The rows with a target are split; candidates are compared by cross-validation on the part to
    learn from; the best is fitted on all of that part, evaluated on the rest, exported, and
    registered if the exported file predicts the same on the raw held-out rows.

    Raises:
        InvalidArgument: the data or the config cannot give a model.
        Conflict: the model cannot be exported, or does not agree with the estimator.
    """
    # One thread for linear algebra: the same sums on any machine, and no waiting for idle threads.
    with _warnings_in_log(run), threadpool_limits(limits=1, user_api="blas"):
        _Job(task, run).run()


class _Job:
    """One training, step by step."""

    def __init__(self, task: TrainingTask, run: Run) -> None:
        self._task = task
        self._run = run
        self._config = SklearnConfig.model_validate(dict(task.config))
        self._metric = selecting_metric(self._config.metric, task.type)

    def run(self) -> None:
        data = self._read()
        train_rows, test_rows = split_rows(data.target, self._config)
        learned, held_out = data.part(train_rows), data.part(test_rows)
        compared = candidates(learned.shape(), self._config)
        self._run.param("seed", self._config.seed)
        self._run.param("test_size", self._config.test_size)
        self._run.param("rows_trained", len(train_rows))
        self._run.param("rows_held_out", len(test_rows))
        self._run.log(
            f"{len(train_rows)} rows to learn from, {len(test_rows)} held out "
            f"(seed {self._config.seed}). Estimators: {', '.join(compared)}."
        )
        steps = Steps(self._run, len(compared) * self._config.cv + 3)
        best = self._select(compared, learned, steps)
        model = self._fit(compared[best], learned, steps)
        predicted = model.predict(model.features.transform(held_out.arrays), data.classes)
        self._report_model(best, model)
        self._evaluate(held_out, predicted)
        steps.advance()
        self._export(model, held_out, predicted)
        steps.advance()

    def _read(self) -> Data:
        """The rows that have a target, encoded."""
        name = self._task.target
        frame = read_frame(
            self._task.dataset_file, self._task.dataset_format, self._task.dataset_options
        )
        if name not in frame.columns:
            raise InvalidArgument(
                f"The target {name!r} is no column of {self._task.dataset}."
                if name
                else f"{self._task.type} needs a target, the column to predict.",
                names_hint(name or "", frame.columns, "columns"),
            )
        known = frame.filter(pl.col(name).is_not_null())
        lost = frame.height - known.height
        if lost:
            self._run.log(f"{lost} rows without a value of {name!r} are left out.")
        self._run.param("rows_without_target", lost)
        target = read_target(known[name], self._task.type)
        columns = choose_columns(known, name, self._config)
        plain, unusable = plain_values(known, columns)
        self._report_columns(columns, plain, unusable)
        inputs = columns.inputs()
        arrays = encode(plain, inputs)
        return Data(inputs, arrays, target, width_of(inputs, arrays))

    def _report_columns(
        self, columns: Columns, plain: pl.DataFrame, unusable: dict[str, int]
    ) -> None:
        kinds: Any = columns.kinds
        if len(kinds) > _NAMES_TOLD:
            kinds = dict(Counter(columns.kinds.values()))
        dropped = dict([*columns.dropped.items()][:_NAMES_TOLD])
        missing = {c.name: c.null_count() for c in plain if c.null_count()}
        missing = dict([*missing.items()][:_NAMES_TOLD])
        self._run.param("columns", {"used": kinds, "dropped": dropped, "missing": missing})
        counts = Counter(columns.kinds.values())
        self._run.log(
            "Columns: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()) + "."
        )
        for column, reason in dropped.items():
            self._run.log(f"Column {column!r} is not used: {reason}.")
        for column, count in unusable.items():
            self._run.log(f"{count} unusable values of {column!r} count as missing.")

    def _select(self, compared: dict[str, EstimatorType], learned: Data, steps: Steps) -> str:
        """The best candidate by cross-validation, or the only one where there is none."""
        if not self._config.cv:
            return next(iter(compared))
        rows = sample_rows(learned.target, self._config)
        if len(rows) < len(learned):
            self._run.param("rows_cross_validated", len(rows))
            self._run.log(f"Cross-validation looks at {len(rows)} of these rows, to save time.")
        comparison = compare(
            compared, learned.part(rows), self._config, self._metric, self._run, steps
        )
        best = comparison.best()
        means = comparison.means()
        self._run.param("candidates", {name: round(mean, 6) for name, mean in means.items()})
        self._run.metric(f"cv_{self._metric}", means[best])
        self._run.log(
            f"Mean {self._metric} over the folds: "
            + ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
        )
        return best

    def _fit(self, kind: EstimatorType, learned: Data, steps: Steps) -> Model:
        features = Features(learned.inputs, self._config.max_text_features)
        encoded = features.fit(learned.arrays)

        def on_stage(stage: int, stages: int, loss: float) -> None:
            self._run.metric("loss", loss, step=stage)
            steps.part((stage + 1) / stages)

        model = fit(features, encoded, learned, kind, self._config, on_stage)
        for epoch, loss in enumerate(getattr(model.estimator, "loss_curve_", [])):
            self._run.metric("loss", loss, step=epoch)
        steps.advance()
        return model

    def _report_model(self, name: str, model: Model) -> None:
        self._run.param("estimator", name)
        self._run.param("params", chosen_params(model.estimator))
        self._run.param("features", int(model.estimator.n_features_in_))
        self._run.log(f"Fitted {name} on {model.estimator.n_features_in_} features.")

    def _evaluate(self, held_out: Data, predicted: Predicted) -> None:
        expected = held_out.target.values
        scores = evaluate(expected, predicted)
        for metric, score in scores.items():
            self._run.metric(metric, score)
        shown = ", ".join(f"{metric} {score:.4f}" for metric, score in scores.items())
        self._run.log(f"On {len(expected)} held-out rows: {shown}")
        if held_out.target.classes:
            confusion = confusion_matrix(expected, predicted.values, held_out.target.classes)
            self._artifact("confusion_matrix.json", confusion)
            for line in confusion_lines(confusion):
                self._run.log(line)
        else:
            residuals = residual_summary(expected, predicted.values)
            self._artifact("residuals.json", residuals)
            self._run.param("residuals", residuals["quantiles"])

    def _artifact(self, name: str, content: dict[str, Any]) -> None:
        path = self._task.folder / name
        path.write_text(json.dumps(content), encoding="utf-8")
        self._run.artifact(path, name)

    def _export(self, model: Model, held_out: Data, predicted: Predicted) -> None:
        path = self._task.folder / MODEL_FILE
        signature = export(model, held_out.inputs, held_out.target.classes, path)
        agreement = check_agreement(path, signature, held_out.arrays, predicted)
        self._run.param("agreement", asdict(agreement))
        self._run.param("onnx", {"opset": OPSET, "bytes": path.stat().st_size})
        self._run.param(
            "versions",
            {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        )
        self._run.log(
            f"Exported to ONNX, {path.stat().st_size} bytes; agrees with the estimator on "
            f"{agreement.rows} held-out rows to {agreement.difference:.1e}."
        )
        self._run.model(path, signature)


@contextmanager
def _warnings_in_log(run: Run) -> Iterator[None]:
    """Each warning of the libraries once, as a line of the job's log."""

    def log(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        run.log(f"{category.__name__}: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.simplefilter("once")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.showwarning = log
        yield
