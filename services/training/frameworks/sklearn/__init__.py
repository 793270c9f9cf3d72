"""The framework `sklearn`: models of tables, with a target or without one, by scikit-learn.

This module is light: the server imports it to validate a job's config. Training itself, with
scikit-learn and ONNX, is in `training` and, where there is nothing to predict, `unsupervised`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.training.frameworks.base import FrameworkConfig, TrainingTask
from mcp_hub.services.training.frameworks.tabular import TableConfig
from mcp_hub.services.training.run import Run

EstimatorName = Literal[
    "auto", "logistic_regression", "linear_regression", "ridge", "lasso", "elastic_net",
    "decision_tree", "random_forest", "extra_trees", "gradient_boosting", "svm", "mlp",
    "naive_bayes", "kmeans", "gaussian_mixture", "isolation_forest", "one_class_svm",
    "local_outlier_factor",
]  # fmt: skip
Metric = Literal[
    "accuracy", "f1_macro", "precision_macro", "recall_macro", "roc_auc", "log_loss",
    "r2", "rmse", "mae", "median_absolute_error",
]  # fmt: skip
UNSUPERVISED = ("clustering", "anomaly")
"""The types that need no target; one that is given is what the outcome is held against."""
ESTIMATORS: dict[str, tuple[EstimatorName, ...]] = {
    "classification": (
        "logistic_regression", "random_forest", "extra_trees", "gradient_boosting",
        "decision_tree", "svm", "mlp", "naive_bayes",
    ),
    "regression": (
        "ridge", "linear_regression", "lasso", "elastic_net", "random_forest", "extra_trees",
        "gradient_boosting", "decision_tree", "svm", "mlp",
    ),
    "clustering": ("kmeans", "gaussian_mixture"),
    "anomaly": ("isolation_forest", "one_class_svm", "local_outlier_factor"),
}  # fmt: skip
"""What each type has; of clustering and anomaly, auto is the first."""
_METRICS = get_args(Metric)
METRICS = {"classification": _METRICS[:6], "regression": _METRICS[6:]}
"""What each type can be selected by, the default first."""
_OTHERS_KEYS = {
    "classification": ("clusters", "contamination"),
    "regression": ("clusters", "contamination", "class_weight"),
    "clustering": ("metric", "class_weight", "contamination", "auto", "budget_s"),
    "anomaly": ("metric", "class_weight", "clusters", "auto", "budget_s"),
}
"""What means nothing to each type."""


class SklearnConfig(TableConfig):
    """How to train. Every key has a default that suits most tables."""

    estimator: EstimatorName = Field(
        default="auto",
        description="auto compares a few by cross-validation and takes the plainest within a "
        "standard error of the best; kmeans or gaussian_mixture for clustering, the last three for "
        "anomaly",
    )
    params: dict[str, Any] = Field(
        default={},
        description="Arguments of the estimator, as scikit-learn names them; not with auto",
    )
    metric: Metric | None = Field(
        default=None,
        description="What cross-validation selects by; by default accuracy, or r2",
    )
    auto: bool = Field(
        default=False,
        description="Try a portfolio of estimators and settings within budget_s; keep the best",
    )
    budget_s: float | None = Field(
        default=None, ge=2, le=86_400, description="Seconds that auto=true may take; by default 60"
    )
    cv: int = Field(default=5, ge=0, le=20, description="Folds of cross-validation, or 0 for none")
    class_weight: Literal["balanced"] | None = Field(
        default=None, description="balanced gives rare classes more weight"
    )

    clusters: int | None = Field(
        default=None, ge=2, le=100, description="Of clustering; by the silhouette if left out"
    )
    contamination: float | None = Field(
        default=None,
        gt=0,
        le=0.5,
        description="Of anomaly: the share of rows to flag, about; 0.05 if left out",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.cv == 1:
            raise ValueError("cv is 1; give 2 or more folds, or 0 for no cross-validation")
        if self.estimator == "auto" and self.params:
            raise ValueError("params need an estimator; auto takes none")
        if self.estimator == "auto" and self.cv == 0:
            raise ValueError("auto compares by cross-validation: give cv of 2 or an estimator")
        if self.auto and self.estimator != "auto":
            raise ValueError("auto=true chooses the estimator itself; leave one of the two out")
        if self.budget_s is not None and not self.auto:
            raise ValueError("budget_s is for auto=true")
        return self


def check_type(config: SklearnConfig, type: str) -> None:
    """Raise InvalidArgument for what models of that type do not have."""
    for key in _OTHERS_KEYS[type]:
        if getattr(config, key):
            raise InvalidArgument(f"config.{key} is not for {type}.", "Leave it out.")
    known = ESTIMATORS[type]
    if config.estimator != "auto" and config.estimator not in known:
        raise InvalidArgument(
            f"{config.estimator} does not do {type}.",
            f"Estimators for {type}: auto, {', '.join(known)}.",
        )
    metrics = METRICS.get(type, ())
    if config.metric is not None and config.metric not in metrics:
        raise InvalidArgument(
            f"{config.metric} is no metric of {type}.",
            f"Metrics of {type}: {', '.join(metrics)}.",
        )


class SklearnFramework:
    """Trains scikit-learn estimators and exports them, preprocessing included, to ONNX."""

    name: ClassVar[str] = "sklearn"
    description: ClassVar[str] = (
        "Classification, regression, clustering and anomaly detection on tables with numbers, "
        "categories, dates and free text."
    )
    types: ClassVar[tuple[str, ...]] = ("classification", "regression", *UNSUPERVISED)
    Config: ClassVar[type[FrameworkConfig]] = SklearnConfig
    preload: ClassVar[tuple[str, ...]] = (f"{__name__}.training", f"{__name__}.unsupervised")

    def missing(self) -> str | None:
        """What must be installed before this framework can run here, or None."""
        absent = [name for name in ("sklearn", "skl2onnx", "onnxruntime") if not find_spec(name)]
        return f"Missing: {', '.join(absent)}. Reinstall mcp-hub." if absent else None

    def check(self, config: FrameworkConfig, type: str) -> None:
        """Refuse what the type does not have. Raises as `check_type`."""
        assert isinstance(config, SklearnConfig)
        check_type(config, type)

    def train(self, task: TrainingTask, run: Run) -> None:
        """Train on the task's data set; see `training.train` and `unsupervised.train`."""
        module = "unsupervised" if task.type in UNSUPERVISED else "training"
        import_module(f"{__name__}.{module}").train(task, run)
