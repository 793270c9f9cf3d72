"""The framework `nodejs`: dense networks on tables, by TensorFlow.js in Node.

This module is light: the server imports it to validate a job's config. Training itself is in
`training`, and what Node runs in `train.mjs`.
"""

from importlib import import_module
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.frameworks.base import (
    NOWHERE,
    FrameworkConfig,
    Place,
    TrainingTask,
)
from mcp_hub.services.training.frameworks.nodejs.finding import find_node
from mcp_hub.services.training.frameworks.sklearn import SklearnFramework
from mcp_hub.services.training.frameworks.tabular import TableConfig
from mcp_hub.services.training.run import Run

Units = Annotated[int, Field(ge=1, le=4096)]


class NodejsConfig(TableConfig):
    """How to train. Every key has a default that suits most tables."""

    layers: list[Units] = Field(
        default=[64, 32], max_length=10, description="Units of each hidden layer; [] for a linear"
    )
    activation: Literal["relu", "tanh", "sigmoid", "elu"] = Field(
        default="relu", description="Of the hidden layers"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of units left out")
    l2: float = Field(default=1e-4, ge=0, le=10, description="Penalty on large weights")
    learning_rate: float = Field(default=0.003, gt=0, le=10, description="Of Adam")
    batch_size: int = Field(default=32, ge=1, le=100_000, description="Rows of one step")
    epochs: int = Field(default=60, ge=1, le=10_000, description="Most passes over the rows")
    patience: int = Field(
        default=10, ge=1, description="Epochs without a lower loss after which it stops"
    )
    validation_size: float = Field(
        default=0.15, ge=0, lt=1, description="The share of rows that decides when to stop"
    )
    max_text_features: int = Field(
        default=1_000, ge=1, le=20_000, description="Most words kept of each text column"
    )


class NodejsFramework:
    """Trains dense networks for browsers, and exports them, preprocessing included, to ONNX."""

    name: ClassVar[str] = "nodejs"
    description: ClassVar[str] = (
        "Dense networks on tables by TensorFlow.js, kept also as a model that browsers load. The "
        "first job installs its packages with npm."
    )
    types: ClassVar[tuple[str, ...]] = ("classification", "regression")
    Config: ClassVar[type[FrameworkConfig]] = NodejsConfig
    preload: ClassVar[tuple[str, ...]] = SklearnFramework.preload

    def __init__(self, place: Place = NOWHERE) -> None:
        self._place = place

    def at(self, place: Place) -> "NodejsFramework":
        """The framework at a hub with that cache folder and, if its settings say so, that Node."""
        return NodejsFramework(place)

    def missing(self) -> str | None:
        """What must be installed before this framework can run here, or None."""
        try:
            find_node(self._place.node)
        except Unavailable as error:
            return f"{error.message} {error.hint}"
        return None

    def train(self, task: TrainingTask, run: Run) -> None:
        """Train on the task's data set; see `training.train`."""
        import_module(f"{__name__}.training").train(task, run, self._place)
