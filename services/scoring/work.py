"""Scoring as jobs of the queue: it gets retries, cancelling, logs and progress like any training.

Light, as every framework's module: what is heavy is imported by `train`. These are not on offer
in `training_frameworks`; `ScoringService` submits them.
"""

from importlib import import_module
from typing import ClassVar

from mcp_hub.services.scoring.views import ModelType
from mcp_hub.services.training.frameworks.base import FrameworkConfig, TrainingTask
from mcp_hub.services.training.frameworks.sklearn import SklearnFramework
from mcp_hub.services.training.run import Run

EVALUATE = "hub.evaluate"
PREDICT = "hub.predict"
WORK = (EVALUATE, PREDICT)
"""The jobs that use a registered model and train none."""


class EvaluateConfig(FrameworkConfig):
    """What is scored, and how. `model` is name:version."""

    model: str
    rows: int
    type: ModelType
    by: str | None = None
    features: list[str] | None = None
    trained_on: str | None = None


class PredictConfig(FrameworkConfig):
    """What is predicted. `model` is name:version; `keep` are the columns to carry over."""

    model: str
    rows: int
    keep: list[str]
    probabilities: bool = True
    features: list[str] | None = None


class Evaluate:
    """Scores a model version on a data set."""

    name: ClassVar[str] = EVALUATE
    description: ClassVar[str] = "Scores a registered model on a data set."
    types: ClassVar[tuple[str, ...]] = ("evaluation",)
    Config: ClassVar[type[FrameworkConfig]] = EvaluateConfig
    # The process from which scikit-learn's attempts are forked has all that scoring needs.
    preload: ClassVar[tuple[str, ...]] = SklearnFramework.preload

    def missing(self) -> str | None:
        """What must be installed before this can run here, or None."""
        return SklearnFramework().missing()

    def train(self, task: TrainingTask, run: Run) -> None:
        """Score; see `evaluating.evaluate`."""
        import_module("mcp_hub.services.scoring.evaluating").evaluate(task, run)


class Predict:
    """Predicts every row of a data set."""

    name: ClassVar[str] = PREDICT
    description: ClassVar[str] = "Predicts every row of a data set with a registered model."
    types: ClassVar[tuple[str, ...]] = ("prediction",)
    Config: ClassVar[type[FrameworkConfig]] = PredictConfig
    preload: ClassVar[tuple[str, ...]] = SklearnFramework.preload

    def missing(self) -> str | None:
        """What must be installed before this can run here, or None."""
        return SklearnFramework().missing()

    def train(self, task: TrainingTask, run: Run) -> None:
        """Predict; see `predicting.predict`."""
        import_module("mcp_hub.services.scoring.predicting").predict(task, run)
