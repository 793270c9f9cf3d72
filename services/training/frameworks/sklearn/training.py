"""A job of the framework `sklearn`, from the data set's file to a model that is served."""

from threadpoolctl import threadpool_limits

from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.sklearn import METRICS, SklearnConfig, check_type
from mcp_hub.services.training.frameworks.sklearn.auto import DEFAULT_BUDGET_S, Budget, Search
from mcp_hub.services.training.frameworks.sklearn.estimators import (
    EstimatorType,
    candidates,
    chosen_params,
)
from mcp_hub.services.training.frameworks.sklearn.export import OTHER_ESTIMATORS, export
from mcp_hub.services.training.frameworks.sklearn.fitting import (
    Comparison,
    Fold,
    Model,
    Steps,
    compare,
    fit,
    make_folds,
    sample_rows,
    shape_of,
)
from mcp_hub.services.training.frameworks.sklearn.importances import importances
from mcp_hub.services.training.frameworks.sklearn.portfolio import portfolio
from mcp_hub.services.training.frameworks.sklearn.voting import Vote
from mcp_hub.services.training.frameworks.tabular.agreement import check_agreement
from mcp_hub.services.training.frameworks.tabular.features import Features
from mcp_hub.services.training.frameworks.tabular.registering import (
    MODEL_FILE,
    register,
    versions_of,
)
from mcp_hub.services.training.frameworks.tabular.reports import Predicted, better
from mcp_hub.services.training.frameworks.tabular.rows import Data, split_rows
from mcp_hub.services.training.frameworks.tabular.table import (
    read_table,
    report_scores,
    warnings_in_log,
    write_artifact,
)
from mcp_hub.services.training.run import Run

LIBRARIES = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy", "polars")


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
    with warnings_in_log(run), threadpool_limits(limits=1, user_api="blas"):
        _Job(task, run).run()


class _Job:
    """One training, step by step."""

    def __init__(self, task: TrainingTask, run: Run) -> None:
        self._task = task
        self._run = run
        self._config = SklearnConfig.model_validate(dict(task.config))
        check_type(self._config, task.type)
        self._metric = self._config.metric or METRICS[task.type][0]
        self._budget = Budget(self._config.budget_s or DEFAULT_BUDGET_S)

    def run(self) -> None:
        data = read_table(self._task, self._config, self._run)
        train_rows, test_rows = split_rows(data.target, self._config)
        learned, held_out = data.part(train_rows), data.part(test_rows)
        self._run.param("seed", self._config.seed)
        self._run.param("test_size", self._config.test_size)
        self._run.param("rows_trained", len(train_rows))
        self._run.param("rows_held_out", len(test_rows))
        self._run.log(
            f"{len(train_rows)} rows to learn from, {len(test_rows)} held out "
            f"(seed {self._config.seed})."
        )
        name, model, steps = self._auto(learned) if self._config.auto else self._default(learned)
        predicted = model.predict(model.features.transform(held_out.arrays), data.classes)
        self._report_model(name, model)
        report_scores(self._task, self._run, held_out, predicted)
        steps.advance()
        if self._config.auto:
            self._report_importances(model, held_out)
            steps.advance()
        self._export(model, held_out, predicted, float(data.target.values.std()))
        steps.advance()

    def _default(self, learned: Data) -> tuple[str, Model, Steps]:
        """The estimator that the config names, or the best of those that suit, fitted."""
        compared = candidates(shape_of(learned), self._config)
        self._run.log(f"Estimators: {', '.join(compared)}.")
        looked_at, folds = self._folds(learned)
        steps = Steps(self._run, len(compared) * len(folds) + 3)
        best = next(iter(compared))
        if folds:
            comparison = compare(
                compared, looked_at, folds, self._config, self._metric, self._run, steps
            )
            best = comparison.best()
            self._report_comparison(comparison, best)
        return best, self._fit(compared[best], learned, steps), steps

    def _auto(self, learned: Data) -> tuple[str, Model | Vote, Steps]:
        """The best of the portfolio within the budget, fitted."""
        compared = portfolio(shape_of(learned), self._config)
        looked_at, folds = self._folds(learned)
        again = {"seed": self._config.seed + 1}
        other_folds = make_folds(looked_at.target, self._config.model_copy(update=again))
        steps = Steps(self._run, len(compared) * (len(folds) + len(other_folds)) + 4)
        search = Search(self._config, self._metric, self._run, steps, self._budget)
        search.cross_validate(compared, looked_at, folds)
        search.repeat(compared, looked_at, other_folds)
        chosen = search.choose(len(learned))
        leaderboard = search.leaderboard(chosen)
        write_artifact(self._task, self._run, "leaderboard.json", leaderboard)
        search.report(chosen)
        features = Features(learned.inputs, self._config.max_text_features)
        encoded = features.fit(learned.arrays)
        members = [fit(features, encoded, learned, compared[name], self._config) for name in chosen]
        steps.advance()
        return "+".join(chosen), members[0] if len(members) == 1 else Vote(tuple(members)), steps

    def _folds(self, learned: Data) -> tuple[Data, list[Fold]]:
        """The rows that cross-validation looks at, and their folds."""
        rows = sample_rows(learned.target, self._config)
        looked_at = learned.part(rows) if len(rows) < len(learned) else learned
        folds = make_folds(looked_at.target, self._config)
        if folds:
            self._report_sample(looked_at, learned)
        return looked_at, folds

    def _report_sample(self, looked_at: Data, learned: Data) -> None:
        self._run.param("rows_cross_validated", len(looked_at))
        if len(looked_at) < len(learned):
            self._run.log(
                f"Cross-validation looks at {len(looked_at)} of these rows, to save time."
            )

    def _report_comparison(self, comparison: Comparison, best: str) -> None:
        means = comparison.means()
        self._run.param("candidates", {name: round(mean, 6) for name, mean in means.items()})
        self._run.metric(f"cv_{self._metric}", means[best])
        self._run.log(
            f"Mean {self._metric} over the folds: "
            + ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
        )
        if any(better(comparison.metric, mean, means[best]) for mean in means.values()):
            self._run.log(
                f"Taken: {best}, the plainest that is within one standard error of the best."
            )

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

    def _report_model(self, name: str, model: Model | Vote) -> None:
        params = [chosen_params(member.estimator) for member in model.members]
        width = int(model.members[0].estimator.n_features_in_)
        self._run.param("estimator", name)
        self._run.param("params", params[0] if len(params) == 1 else params)
        self._run.param("features", width)
        self._run.log(f"Fitted {name} on {width} features.")

    def _report_importances(self, model: Model | Vote, held_out: Data) -> None:
        found = importances(model, held_out, self._metric, self._config.seed, self._budget)
        write_artifact(self._task, self._run, "importances.json", found)
        shown = {column["column"]: round(column["mean"], 4) for column in found["columns"][:10]}
        self._run.param("importances", shown)
        self._run.log(
            f"What {self._metric} loses when a column is shuffled: "
            + ", ".join(f"{column} {loss:.4f}" for column, loss in shown.items())
        )

    def _export(
        self, model: Model | Vote, held_out: Data, predicted: Predicted, spread: float
    ) -> None:
        path = self._task.folder / MODEL_FILE
        signature = export(model, held_out.inputs, held_out.target.classes, path)
        agreement = check_agreement(
            path, signature, held_out.arrays, predicted, spread, OTHER_ESTIMATORS
        )
        self._run.param("versions", versions_of(LIBRARIES))
        register(self._run, path, signature, agreement, "the estimator")
