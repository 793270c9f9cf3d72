"""Train in this process as an attempt does, and read what it reported."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.pytorch import PytorchFramework
from mcp_hub.services.training.run import Run, run
from tests.services.training.frameworks.sklearn.conftest import Trained

Train = Callable[..., Trained]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As a worker with as many attempts as processors has it."""
    torch.set_num_threads(1)


@pytest.fixture
def train(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`train(frame, target="y", type="classification", **config)`."""

    def train(
        frame: pl.DataFrame,
        target: str = "y",
        type: str = "classification",
        checkpoint: Path | None = None,
        reports: Run = run,
        **config: Any,
    ) -> Trained:
        folder = tmp_path_factory.mktemp("attempt")
        events = folder / "events.jsonl"
        events.touch()
        monkeypatch.setenv("MCP_HUB_EVENTS", str(events))
        file = folder / "data.parquet"
        frame.write_parquet(file)
        task = TrainingTask(
            job_id="job_test", attempt=1, name="model", type=type, target=target, config=config,
            dataset="data:1", dataset_file=file, dataset_format="parquet", dataset_options={},
            folder=folder,
        )  # fmt: skip
        PytorchFramework().train(replace(task, checkpoint=checkpoint), reports)
        lines = events.read_text(encoding="utf-8").splitlines()
        return Trained(folder, [json.loads(line) for line in lines])

    return train
