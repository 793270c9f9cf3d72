"""A job of the framework `pytorch`, from the data set's file to a model that is served."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.pytorch import PytorchConfig
from mcp_hub.services.training.frameworks.pytorch.elastic import launch
from mcp_hub.services.training.frameworks.pytorch.group import Group, is_rank, open_group
from mcp_hub.services.training.frameworks.pytorch.learning import Learner, Rows, outputs_of
from mcp_hub.services.training.frameworks.pytorch.network import build_network, export
from mcp_hub.services.training.frameworks.tabular.agreement import (
    OF_NETWORKS,
    Agreement,
    check_agreement,
)
from mcp_hub.services.training.frameworks.tabular.features import Features
from mcp_hub.services.training.frameworks.tabular.registering import (
    MODEL_FILE,
    register,
    versions_of,
)
from mcp_hub.services.training.frameworks.tabular.reports import Predicted
from mcp_hub.services.training.frameworks.tabular.rows import Data, split_rows
from mcp_hub.services.training.frameworks.tabular.table import (
    read_table,
    report_scores,
    warnings_in_log,
)
from mcp_hub.services.training.run import Run

CHECKPOINT_FILE = "checkpoint.pt"
_LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy", "polars", "scikit-learn")


def train(task: TrainingTask, run: Run) -> None:
    """Train as `PytorchFramework.train` says, in this process or in several.

    The rows with a target are split; a part of those to learn from is what early stopping looks
    at; the network of the best epoch is evaluated on the held-out rows, exported, and registered
    if the exported file predicts the same on the raw held-out rows.

    Raises:
        InvalidArgument: the data or the config cannot give a model.
        Conflict: the exported model does not agree with the network.
        Unavailable: there is no such device here, or too many processes were lost.
    """
    config = PytorchConfig.model_validate(dict(task.config))
    if config.is_distributed and not is_rank():
        launch(task, config, run)
        return
    with warnings_in_log(run), open_group(config) as group:
        _Job(task, config, group, run).run()


class _Job:
    """One training, step by step; in a group, the part of one process."""

    def __init__(self, task: TrainingTask, config: PytorchConfig, group: Group, run: Run) -> None:
        self._task = task
        self._config = config
        self._group = group
        self._run = run
        self._shift, self._scale = 0.0, 1.0

    def run(self) -> None:
        data = read_table(self._task, self._config, self._run)
        train_rows, test_rows = split_rows(data.target, self._config)
        learned, held_out = data.part(train_rows), data.part(test_rows)
        fitted, watched = self._split(learned)
        if not data.classes:
            values = fitted.target.values
            self._shift, self._scale = float(values.mean()), float(values.std()) or 1.0
        features = Features(data.inputs, self._config.max_text_features)
        rows = self._rows(fitted, features, features.fit(fitted.arrays))
        self._report_start(fitted, watched, held_out, rows.features.shape[1])
        network = build_network(rows.features.shape[1], max(data.classes, 1), self._config)
        learner = Learner(
            network,
            rows,
            self._rows(watched, features) if watched else None,
            self._class_weights(fitted),
            self._config,
            self._group,
        )
        self._restore(learner)
        learner.learn(self._run, self._task.folder / CHECKPOINT_FILE)
        self._run.param("epochs", learner.epoch)
        self._run.param("best_epoch", learner.best_epoch)
        self._run.progress(self._config.epochs, self._config.epochs)
        most = " (the most)" if learner.epoch == self._config.epochs else ""
        self._run.log(
            f"Stopped after epoch {learner.epoch}{most}; the best was {learner.best_epoch}."
        )
        if self._group.leads:
            predicted = self._predict(network, self._rows(held_out, features), data.classes)
            report_scores(self._task, self._run, held_out, predicted)
            path, signature, agreement = self._export(
                network, features, held_out, predicted, float(data.target.values.std())
            )
            register(self._run, path, signature, agreement, "the network", learner.best_losses)

    def _split(self, learned: Data) -> tuple[Data, Data | None]:
        """The rows to fit, and those that early stopping looks at."""
        size = self._config.validation_size
        if not size:
            return learned, None
        try:
            split = self._config.model_copy(update={"test_size": size})
            fitted, watched = split_rows(learned.target, split)
        except (InvalidArgument, ValueError):
            self._run.log("Too few rows for a validation: early stopping looks at the train_loss.")
            return learned, None
        return learned.part(fitted), learned.part(watched)

    def _rows(self, data: Data, features: Features, encoded: Any = None) -> Rows:
        encoded = encoded or features.transform(data.arrays)
        matrix = features.matrix(encoded, scaled=True).astype(np.float32)
        if data.classes:
            return Rows(matrix, data.target.values.astype(np.int64))
        return Rows(matrix, ((data.target.values - self._shift) / self._scale).astype(np.float32))

    def _class_weights(self, fitted: Data) -> NDArray[np.float32] | None:
        if not fitted.classes or self._config.class_weight is None:
            return None
        counts = np.bincount(fitted.target.values, minlength=fitted.classes)
        return (len(fitted) / (fitted.classes * np.maximum(counts, 1))).astype(np.float32)

    def _report_start(self, fitted: Data, watched: Data | None, held_out: Data, width: int) -> None:
        watching = len(watched) if watched else 0
        self._run.param("seed", self._config.seed)
        self._run.param("test_size", self._config.test_size)
        self._run.param("rows_trained", len(fitted))
        self._run.param("rows_validated", watching)
        self._run.param("rows_held_out", len(held_out))
        self._run.param("features", width)
        self._run.param("device", str(self._group.device))
        self._run.param("processes", self._group.size)
        layers = " → ".join(map(str, [width, *self._config.hidden, max(fitted.classes, 1)]))
        self._run.log(
            f"{len(fitted)} rows to learn from, {watching} to stop by, {len(held_out)} held out "
            f"(seed {self._config.seed}). Layers {layers} on {self._group.device}, "
            f"processes: {self._group.size}."
        )

    def _restore(self, learner: Learner) -> None:
        """Go on from the newest checkpoint there is: of this attempt, or of an earlier one."""
        data = self._group.shared_bytes(self._newest_checkpoint() if self._group.leads else b"")
        if not data:
            return
        if learner.restore(data):
            self._run.log(f"Goes on after epoch {learner.epoch}.")
        else:
            self._run.log("Begins anew: the checkpoint is of another release of mcp-hub.")

    def _newest_checkpoint(self) -> bytes:
        own = self._task.folder / CHECKPOINT_FILE
        newest: Path | None = own if own.exists() else self._task.checkpoint
        return newest.read_bytes() if newest else b""

    def _predict(self, network: nn.Sequential, rows: Rows, classes: int) -> Predicted:
        outputs = outputs_of(network, rows, self._group.device)
        if not classes:
            values = outputs[:, 0].double().numpy() * self._scale + self._shift
            return Predicted(values)
        probabilities = torch.softmax(outputs, dim=1).double().numpy()
        return Predicted(probabilities.argmax(axis=1), probabilities)

    def _export(
        self,
        network: nn.Sequential,
        features: Features,
        held_out: Data,
        predicted: Predicted,
        spread: float,
    ) -> tuple[Path, Signature, Agreement]:
        path = self._task.folder / MODEL_FILE
        signature = export(network, features, held_out, self._shift, self._scale, path)
        agreement = check_agreement(
            path, signature, held_out.arrays, predicted, spread, OF_NETWORKS
        )
        self._run.param("versions", versions_of(_LIBRARIES))
        return path, signature, agreement
