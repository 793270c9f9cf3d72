"""Train by TensorFlow.js in this process as an attempt does, and read what it reported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_hub.services.training.frameworks.base import Place, TrainingTask
from mcp_hub.services.training.frameworks.nodejs import NodejsFramework
from mcp_hub.services.training.run import run
from tests.node import CACHE, needed_node
from tests.services.training.frameworks.sklearn.conftest import Trained

Train = Callable[..., Trained]


@pytest.fixture(scope="session")
def place() -> Place:
    return Place(cache=CACHE, node=needed_node())


@pytest.fixture
def train(
    place: Place, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """`train(frame, target, type, **config)`."""

    def train(frame: pl.DataFrame, target: str, type: str, **config: Any) -> Trained:
        folder = tmp_path_factory.mktemp("attempt")
        file, events = folder / "data.parquet", folder / "events.jsonl"
        frame.write_parquet(file)
        events.touch()
        monkeypatch.setenv("MCP_HUB_EVENTS", str(events))
        task = TrainingTask(
            job_id="job_test", attempt=1, name="model", type=type, target=target, config=config,
            dataset="data:1", dataset_file=file, dataset_format="parquet", dataset_options={},
            folder=folder,
        )  # fmt: skip
        NodejsFramework(place).train(task, run)
        lines = events.read_text(encoding="utf-8").splitlines()
        return Trained(Path(folder), [json.loads(line) for line in lines])

    return train
