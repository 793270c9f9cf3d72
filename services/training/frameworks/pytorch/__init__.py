"""The framework `pytorch`: neural networks on tables and text, with checkpoints.

This module is light: the server imports it to validate a job's config. Training itself, with
torch, is in `training`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mcp_hub.services.training.frameworks.base import FrameworkConfig, TrainingTask
from mcp_hub.services.training.frameworks.tabular import TableConfig
from mcp_hub.services.training.run import Run

Device = Literal["auto", "cpu", "cuda"]


class PytorchConfig(TableConfig):
    """How to train. Every key has a default that suits most tables."""

    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default=[128, 64], max_length=16, description="Units of each hidden layer; [] for none"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Of the hidden layers' units")
    epochs: int = Field(default=200, ge=1, le=100_000, description="Most passes over the rows")
    patience: int = Field(
        default=20, ge=1, description="Epochs without a better validation loss before it stops"
    )
    validation_size: float = Field(
        default=0.1, ge=0, lt=1,
        description="The share of the learned rows that early stopping looks at; 0 for none",
    )  # fmt: skip
    batch_size: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Of all processes together; by default 32 "
        "rows, or 256 of many"
    )  # fmt: skip
    learning_rate: float = Field(default=2e-3, gt=0, le=10, description="Of AdamW")
    weight_decay: float = Field(default=1e-2, ge=0, le=10, description="Of AdamW")
    class_weight: Literal["balanced"] | None = Field(
        default=None, description="balanced gives rare classes more weight"
    )
    device: Device = Field(default="auto", description="auto takes a GPU where there is one")
    nproc_per_node: int = Field(
        default=1, ge=1, le=64, description="Processes on each machine, run by torchrun"
    )
    nnodes: int = Field(
        default=1, ge=1, le=64, description="Machines; submit the same job once for each"
    )
    node_rank: int = Field(
        default=0, ge=0, description="Which of the nnodes jobs this is; 0 registers the model"
    )
    rendezvous: str | None = Field(
        default=None, pattern=r"^[^\s:]+:\d{1,5}$",
        description="HOST:PORT where the machines meet, a free port of one of them",
    )  # fmt: skip
    max_restarts: int = Field(
        default=3, ge=0, le=100, description="Restarts from the checkpoint after a process is lost"
    )

    @property
    def is_distributed(self) -> bool:
        """Whether several processes train together."""
        return self.nnodes * self.nproc_per_node > 1

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.nnodes > 1 and self.rendezvous is None:
            raise ValueError("nnodes above 1 needs rendezvous, HOST:PORT of one of the machines")
        if self.node_rank >= self.nnodes:
            raise ValueError(f"node_rank counts from 0 to nnodes - 1, {self.nnodes - 1}")
        return self


class PytorchFramework:
    """Trains networks by torch, and exports them, preprocessing included, to ONNX."""

    name: ClassVar[str] = "pytorch"
    description: ClassVar[str] = (
        "Neural networks on tables and text, by PyTorch: early stopping, a checkpoint each epoch, "
        "GPUs, several processes and machines."
    )
    types: ClassVar[tuple[str, ...]] = ("classification", "regression")
    Config: ClassVar[type[FrameworkConfig]] = PytorchConfig
    preload: ClassVar[tuple[str, ...]] = (f"{__name__}.training",)
    uses_gpu: ClassVar[bool] = True

    def missing(self) -> str | None:
        """What must be installed before this framework can run here, or None."""
        return None if find_spec("torch") else "Missing: torch. pip install 'mcp-hub[pytorch]'"

    def train(self, task: TrainingTask, run: Run) -> None:
        """Train on the task's data set; see `training.train`."""
        import_module(f"{__name__}.training").train(task, run)
