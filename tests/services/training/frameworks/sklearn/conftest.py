"""Train in this process as an attempt does, and read what it reported."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mcp_hub.services.inference.encoding import encode_rows
from mcp_hub.services.inference.runtime import open_session, run_session
from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.sklearn import SklearnFramework
from mcp_hub.services.training.run import run


@dataclass(frozen=True)
class Trained:
    """The events of a training, by type."""

    folder: Path
    events: list[dict[str, Any]]

    def of(self, type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type]

    @property
    def params(self) -> dict[str, Any]:
        return {event["key"]: event["value"] for event in self.of("param")}

    @property
    def metrics(self) -> dict[str, float]:
        return {e["key"]: e["value"] for e in self.of("metric") if e["step"] is None}

    def series(self, key: str) -> list[tuple[int, float]]:
        return [(e["step"], e["value"]) for e in self.of("metric") if e["key"] == key]

    @property
    def log(self) -> str:
        return "\n".join(event["text"] for event in self.of("log"))

    @property
    def signature(self) -> Signature:
        (event,) = self.of("model")
        return Signature.model_validate(event["signature"])

    def artifact(self, name: str) -> Any:
        (event,) = [e for e in self.of("artifact") if e["name"] == name]
        return json.loads(Path(event["path"]).read_text(encoding="utf-8"))

    def predict(self, rows: list[Mapping[str, Any]]) -> list[Any]:
        """The served predictions of raw rows, and of a classifier their probabilities."""
        (event,) = self.of("model")
        session = open_session(Path(event["path"]).read_bytes(), 1)
        inputs = encode_rows(self.signature.inputs, rows)
        outputs = [output.name for output in self.signature.outputs]
        return run_session(session, outputs, inputs)


Train = Callable[..., Trained]


def _task(folder: Path, frame: pl.DataFrame, target: str | None, type: str) -> dict[str, Any]:
    file = folder / "data.parquet"
    frame.write_parquet(file)
    return {
        "job_id": "job_test", "attempt": 1, "name": "model", "type": type, "target": target,
        "dataset": "data:1", "dataset_file": file, "dataset_format": "parquet",
        "dataset_options": {}, "folder": folder,
    }  # fmt: skip


@pytest.fixture
def train(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`train(frame, target="y", type="classification", **config)`; the events also on failure."""

    def train(
        frame: pl.DataFrame,
        target: str | None = "y",
        type: str = "classification",
        **config: Any,
    ) -> Trained:
        folder = tmp_path_factory.mktemp("attempt")
        events = folder / "events.jsonl"
        events.touch()
        monkeypatch.setenv("MCP_HUB_EVENTS", str(events))
        task = TrainingTask(config=config, **_task(folder, frame, target, type))
        try:
            SklearnFramework().train(task, run)
        finally:
            lines = events.read_text(encoding="utf-8").splitlines()
            train.last = Trained(folder, [json.loads(line) for line in lines])  # type: ignore[attr-defined]
        return train.last  # type: ignore[attr-defined, no-any-return]

    return train


@pytest.fixture
def numbers() -> Callable[..., pl.DataFrame]:
    """A maker of tables of normal numbers a, b, … with a class y that depends on a and b."""

    def make(rows: int = 60, columns: int = 3, seed: int = 0) -> pl.DataFrame:
        values = np.random.default_rng(seed).normal(size=(rows, columns))
        names = [chr(ord("a") + i) if columns <= 26 else f"c{i}" for i in range(columns)]
        frame = pl.DataFrame(dict(zip(names, values.T, strict=True)))
        score = values[:, 0] - values[:, min(1, columns - 1)] / 2
        return frame.with_columns(y=pl.Series(np.where(score > 0, "up", "down")))

    return make
