"""Networks trained for real, on the processor."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from palmerpenguins import load_penguins
from pydantic import ValidationError
from sklearn import datasets

from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.services.training.frameworks import pytorch
from mcp_hub.services.training.frameworks.pytorch import PytorchConfig, PytorchFramework
from mcp_hub.services.training.frameworks.pytorch.group import Group
from mcp_hub.services.training.frameworks.pytorch.learning import Learner, Rows
from mcp_hub.services.training.frameworks.pytorch.network import build_network
from mcp_hub.services.training.run import Run
from tests.services.training.frameworks.sklearn.tables import json_row, mixed_table

from .conftest import Train


def labelled(rows: int = 120) -> pl.DataFrame:
    frame = mixed_table(rows, 0)
    far = (frame["city"] == "Zürich").cast(pl.Int64).fill_null(0)
    score = frame["size"].fill_null(50) + 8 * far
    return frame.with_columns(y=pl.Series(np.where(score > 52, "big", "small")))


def numbers(rows: int = 90) -> pl.DataFrame:
    values = np.random.default_rng(0).normal(size=(rows, 3))
    return pl.DataFrame({"a": values[:, 0], "b": values[:, 1]}).with_columns(
        y=pl.Series(values[:, 0] * 30 - values[:, 1] + 1000)
    )


def test_a_table_of_every_kind_is_predicted_from_raw_rows(train: Train) -> None:
    frame = labelled()
    result = train(frame, epochs=30)
    kinds = {field.name: field.kind for field in result.signature.inputs}
    assert set(kinds.values()) == {"number", "boolean", "category", "datetime", "text"}
    assert result.params["agreement"]["labels_differing"] == 0
    rows = [json_row(frame.drop("y"), row) for row in range(20)]
    unknown = {**rows[0], "city": "a city unseen in training", "note": "words unseen too"}
    labels, probabilities = result.predict([*rows, unknown, dict.fromkeys(rows[0])])
    assert set(labels) <= {"big", "small"}
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert result.params["device"] in ("cpu", "cuda:0")


def test_texts_are_told_apart_by_their_words(train: Train) -> None:
    texts = ["the cat sat on a mat", "a dog ran after the ball", "cats purr and sleep",
             "dogs bark and dig"] * 20  # fmt: skip
    noise = [f"{text} {['red', 'green', 'blue'][n % 3]}" for n, text in enumerate(texts)]
    frame = pl.DataFrame({"note": noise, "y": ["cat", "dog"] * 40})
    result = train(frame, epochs=40, columns={"note": "text"}, class_weight="balanced")
    assert result.metrics["accuracy"] == 1
    labels, _ = result.predict([{"note": "A CAT on the mat"}, {"note": "the dog, the ball"}])
    assert list(labels) == ["cat", "dog"]


def test_a_regression_gives_numbers_of_the_targets_size(train: Train) -> None:
    result = train(numbers(), type="regression", learning_rate=0.01)
    assert result.metrics["r2"] > 0.9
    (values,) = result.predict([{"a": 1, "b": 0}, {"a": -1, "b": 0}])
    np.testing.assert_allclose(values, [[1030], [970]], atol=8)
    assert result.artifact("residuals.json")["rows"] == 18


@pytest.mark.parametrize(
    ("name", "least"),
    # The framework sklearn's defaults, with the same seed: 0.967, 1, 0.982, 0.986, 0.331, 0.986.
    [("iris", 0.93), ("wine", 0.94), ("breast_cancer", 0.95), ("digits", 0.95), ("diabetes", 0.28),
     ("penguins", 0.95)],
)  # fmt: skip
def test_scores_are_near_those_of_scikit_learns_defaults(
    train: Train, name: str, least: float
) -> None:
    if name == "penguins":
        birds = load_penguins()
        frame = pl.DataFrame({c: birds[c].tolist() for c in birds.columns}, strict=False)
        result = train(frame, target="species")
    else:
        data = getattr(datasets, f"load_{name}")()
        frame = pl.DataFrame(data.data, schema=[f"f{n}" for n in range(data.data.shape[1])])
        type = "regression" if name == "diabetes" else "classification"
        result = train(frame.with_columns(y=pl.Series(data.target)), type=type)
    assert result.metrics.get("accuracy", result.metrics.get("r2", 0)) >= least


def test_each_epoch_is_reported_and_the_best_one_is_kept(train: Train) -> None:
    result = train(labelled(), patience=3, learning_rate=0.02)
    losses = dict(result.series("validation_loss"))
    epochs, best = result.params["epochs"], result.params["best_epoch"]
    assert list(losses) == list(range(1, epochs + 1))
    assert [step for step, _ in result.series("train_loss")] == list(losses)
    assert losses[best] == min(losses.values())
    assert epochs == best + 3
    # The model is that of the best epoch, and so are its losses.
    assert result.of("model")[-1]["metrics"] == {
        "train_loss": dict(result.series("train_loss"))[best], "validation_loss": losses[best]
    }  # fmt: skip
    assert [event["step"] for event in result.of("checkpoint")] == list(losses)
    assert result.of("progress")[-1]["done"] == result.of("progress")[-1]["total"] == 200


class _Killed(BaseException):
    pass


class _KilledAt(Run):
    """Ends the training as a kill would, after a checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def checkpoint(self, path: str | Path, step: int | None = None) -> None:
        super().checkpoint(path, step)
        if step == self._step:
            raise _Killed


@pytest.mark.parametrize("killed_at", [1, 7, 12])
def test_who_goes_on_from_a_checkpoint_goes_on_along_the_same_curve(
    train: Train, tmp_path_factory: pytest.TempPathFactory, killed_at: int
) -> None:
    config: dict[str, Any] = {"epochs": 12, "dropout": 0.3, "patience": 5, "learning_rate": 0.02}
    whole = train(labelled(), **config)
    with pytest.raises(_Killed):
        train(labelled(), reports=_KilledAt(min(killed_at, whole.params["epochs"])), **config)
    folder = max(
        (path for path in tmp_path_factory.getbasetemp().glob("attempt*") if not path.is_symlink()),
        key=lambda path: path.stat().st_mtime_ns,
    )
    resumed = train(labelled(), checkpoint=folder / "checkpoint.pt", **config)
    assert "Goes on after epoch" in resumed.log
    for key in ("train_loss", "validation_loss"):
        assert resumed.series(key) == [p for p in whole.series(key) if p[0] > killed_at]
    assert resumed.metrics == whole.metrics
    models = [(one.folder / "model.onnx").read_bytes() for one in (whole, resumed)]
    assert models[0] == models[1]


def test_a_checkpoint_of_another_release_is_left_alone(train: Train, tmp_path: Path) -> None:
    torch.save({"format": 0}, tmp_path / "old.pt")
    result = train(labelled(), checkpoint=tmp_path / "old.pt", epochs=2)
    assert "Begins anew" in result.log
    assert result.params["epochs"] == 2


def test_a_checkpoint_is_never_run(train: Train, tmp_path: Path) -> None:
    torch.save({"format": 1, "network": Path("/")}, tmp_path / "pickled.pt")
    with pytest.raises(Exception, match="Weights only load failed"):
        train(labelled(), checkpoint=tmp_path / "pickled.pt")


def test_few_rows_do_without_a_validation(train: Train) -> None:
    labels = ["a", "b"] * 6 + ["rare"] * 2
    frame = pl.DataFrame({"a": [float(n) for n in range(14)], "y": labels})
    result = train(frame, epochs=3)
    assert result.series("validation_loss") == []
    assert len(result.series("train_loss")) == 3
    assert "early stopping looks at the train_loss" in result.log


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    config, group = PytorchConfig(hidden=[4]), Group(torch.device("cpu"))
    rows = Rows(np.full((8, 2), 3e38, dtype=np.float32), np.zeros(8, dtype=np.float32))
    learner = Learner(build_network(2, 1, config), rows, None, None, config, group)
    with pytest.raises(InvalidArgument, match="the loss of epoch 1 is not finite"):
        learner.learn(Run(), tmp_path / "checkpoint.pt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_missed(train: Train) -> None:
    with pytest.raises(Unavailable, match="torch finds 0 GPUs"):
        train(labelled(), device="cuda")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"nnodes": 2}, "needs rendezvous"),
        ({"nnodes": 2, "rendezvous": "no port"}, "should match pattern"),
        ({"node_rank": 1}, "node_rank counts from 0"),
        ({"device": "tpu"}, "auto"),
        ({"estimator": "svm"}, "Extra inputs"),
        ({"epochs": 0}, "greater than or equal to 1"),
    ],
)
def test_a_config_that_cannot_work_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PytorchConfig(**config)


def test_every_key_is_described() -> None:
    properties = PytorchConfig.model_json_schema()["properties"]
    assert [name for name, field in properties.items() if not field.get("description")] == []


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PytorchFramework().missing() is None
    monkeypatch.setattr(pytorch, "find_spec", lambda _: None)
    assert "pip install 'mcp-hub[pytorch]'" in (PytorchFramework().missing() or "")


def test_to_validate_a_config_loads_no_torch() -> None:
    program = (
        "import sys; from mcp_hub.services.training.frameworks.registry import load_framework;"
        "load_framework('pytorch').Config(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
