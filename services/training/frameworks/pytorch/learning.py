"""Epochs of mini-batches with early stopping, from the beginning or from a checkpoint.

Whatever is drawn at random in an epoch, the order of the rows and what dropout leaves out, is
drawn from the seed, the epoch and the process's rank. So a checkpoint needs no state of a
generator, and who goes on from one goes on along the same curve.
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.training.frameworks.pytorch import PytorchConfig
from mcp_hub.services.training.frameworks.pytorch.group import Group
from mcp_hub.services.training.run import Run

_FORMAT = 1
"""Of the checkpoints: greater when they hold something else."""

_MANY_ROWS = 10_000
_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class Rows:
    """Features float32 [rows, width], a numpy array or a scipy CSR matrix, and the targets.

    Those are positions of classes, int64, or numbers of mean 0 and spread 1, float32.
    """

    features: Any
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, rows: Any, device: torch.device) -> tuple[Tensor, Tensor]:
        """Those rows as tensors on the device."""
        return self.inputs(rows, device), torch.from_numpy(self.targets[rows]).to(device)

    def inputs(self, rows: Any, device: torch.device) -> Tensor:
        """The features of those rows."""
        part = self.features[rows]
        dense = part if isinstance(part, np.ndarray) else part.toarray()
        return torch.from_numpy(dense).to(device)


class Learner:
    """A network as it learns; `epoch` counts the finished epochs."""

    def __init__(
        self,
        network: nn.Sequential,
        learned: Rows,
        watched: Rows | None,
        class_weights: NDArray[np.float32] | None,
        config: PytorchConfig,
        group: Group,
    ) -> None:
        self.epoch = 0
        self.best_epoch = 0
        self.best_losses: dict[str, float] = {}
        """Of the best epoch, by the names of their metrics."""
        self._best_loss = float("inf")
        self._network = network.to(group.device)
        self._best = self._weights()
        self._learned = learned
        self._watched = watched
        self._classifies = learned.targets.dtype == np.int64
        self._class_weights = (
            None if class_weights is None else torch.from_numpy(class_weights).to(group.device)
        )
        self._config = config
        self._group = group
        self._batch_size = config.batch_size or (256 if len(learned) > _MANY_ROWS else 32)
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    @property
    def is_done(self) -> bool:
        """Whether there is no further epoch: all are over, or none got better for too long."""
        waited = self.epoch - self.best_epoch
        return self.epoch >= self._config.epochs or waited >= self._config.patience

    def learn(self, run: Run, checkpoint: Path) -> None:
        """Learn until it is done, then take the best epoch's weights.

        Each epoch's losses are reported as `train_loss` and `validation_loss`, and then the
        leader writes the checkpoint.

        Raises:
            InvalidArgument: the losses are not finite any more.
        """
        averaged = self._group.wrap(self._network)
        while not self.is_done:
            train_loss = self._train_epoch(averaged)
            self.epoch += 1
            watched = train_loss if self._watched is None else self._loss(self._watched)
            # All processes must decide alike, also where they do not calculate alike.
            train_loss, watched = self._group.shared(train_loss), self._group.shared(watched)
            if not np.isfinite(train_loss + watched):
                raise InvalidArgument(
                    f"The training diverged: the loss of epoch {self.epoch} is not finite.",
                    f"Lower config.learning_rate, which is {self._config.learning_rate:g}.",
                )
            losses = {"train_loss": train_loss}
            if self._watched is not None:
                losses["validation_loss"] = watched
            if watched < self._best_loss:
                self._best_loss, self.best_epoch, self.best_losses = watched, self.epoch, losses
                self._best = self._weights()
            for name, loss in losses.items():
                run.metric(name, loss, step=self.epoch)
            run.progress(self.epoch, self._config.epochs)
            if self._group.leads:
                self._save(checkpoint)
                run.checkpoint(checkpoint, step=self.epoch)
        self._network.load_state_dict(self._best)

    def restore(self, data: bytes) -> bool:
        """Take on what a checkpoint holds; False if it is one of another release's."""
        # Tensors and plain values only: nothing of it is run.
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if state.get("format") != _FORMAT:
            return False
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._best = {name: value.to(self._group.device) for name, value in state["best"].items()}
        self._best_loss, self.best_epoch = state["best_loss"], state["best_epoch"]
        self.best_losses = state.get("best_losses", {})
        self.epoch = state["epoch"]
        return True

    def _save(self, path: Path) -> None:
        state = {
            "format": _FORMAT,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "epoch": self.epoch,
            "best": self._best,
            "best_loss": self._best_loss,
            "best_losses": self.best_losses,
            "best_epoch": self.best_epoch,
            # Two jobs never have the same checkpoint, so that neither removes the other's.
            "job": os.environ.get("MCP_HUB_JOB_ID", ""),
        }
        written = path.with_suffix(".part")
        torch.save(state, written)
        written.replace(path)

    def _train_epoch(self, averaged: nn.Module) -> float:
        """Learn from all rows once; the mean loss of them as they were met."""
        group, epoch = self._group, self.epoch + 1
        order = np.random.default_rng([self._config.seed, epoch]).permutation(len(self._learned))
        torch.manual_seed(_mixed(self._config.seed, epoch, group.rank))
        averaged.train()
        total = torch.zeros(2, dtype=torch.float64, device=group.device)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            weight = self._weight(batch)
            inputs, targets = self._learned.part(batch[group.rank :: group.size], group.device)
            loss = self._summed(averaged(inputs), targets)
            self._optimizer.zero_grad()
            # The group averages the gradients: so each gives its share of the batch's mean.
            (loss * (group.size / weight)).backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            total += torch.stack([loss.detach().double(), total.new_tensor(weight / group.size)])
        summed, weight = group.total(total).tolist()
        return float(summed / weight)

    def _loss(self, rows: Rows) -> float:
        """The mean loss of rows that are not learned from."""
        self._network.eval()
        summed = 0.0
        with torch.no_grad():
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                part = slice(start, start + _ROWS_AT_ONCE)
                inputs, targets = rows.part(part, self._group.device)
                summed += float(self._summed(self._network(inputs), targets))
        return summed / self._weight_of(rows.targets)

    def _summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._classifies:
            return functional.cross_entropy(
                outputs, targets, weight=self._class_weights, reduction="sum"
            )
        return functional.mse_loss(outputs[:, 0], targets, reduction="sum")

    def _weight(self, rows: NDArray[Any]) -> float:
        return self._weight_of(self._learned.targets[rows])

    def _weight_of(self, targets: NDArray[Any]) -> float:
        if self._class_weights is None:
            return float(len(targets))
        return float(self._class_weights[torch.from_numpy(targets)].sum())

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._network.state_dict().items()}


def outputs_of(network: nn.Sequential, rows: Rows, device: torch.device) -> Tensor:
    """What the network gives for all rows, float32 [rows, outputs] in the main memory."""
    network.eval()
    with torch.no_grad():
        parts = [
            network(rows.inputs(slice(start, start + _ROWS_AT_ONCE), device)).cpu()
            for start in range(0, len(rows), _ROWS_AT_ONCE)
        ]
    return torch.cat(parts)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
