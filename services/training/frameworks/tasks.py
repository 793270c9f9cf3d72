"""The task of an attempt: the file that its worker writes, and what a framework makes of it."""

import json
from pathlib import Path
from typing import Any

from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.frameworks.base import StagedModel, TrainingTask

TASK_FILE = "task.json"


def read_task(folder: Path) -> dict[str, Any]:
    """The task that the worker wrote into the attempt's folder."""
    task: dict[str, Any] = json.loads((folder / TASK_FILE).read_text(encoding="utf-8"))
    return task


def training_task(task: dict[str, Any], folder: Path) -> TrainingTask:
    """The same as a framework takes it."""
    return TrainingTask(
        job_id=task["job_id"],
        attempt=task["attempt"],
        name=task["name"],
        type=task["type"],
        target=task["target"],
        config=task["config"],
        dataset=task["dataset"],
        dataset_file=folder / task["dataset_file"],
        dataset_format=task["dataset_format"],
        dataset_options=task["dataset_options"],
        dataset_dtypes=task["dataset_dtypes"],
        folder=folder,
        checkpoint=folder / task["checkpoint"] if task["checkpoint"] else None,
        threads=task["limits"]["threads"],
        gpus=tuple(task["limits"]["gpus"]),
        uses=_staged_model(task["uses"], folder) if task["uses"] else None,
    )


def _staged_model(uses: dict[str, Any], folder: Path) -> StagedModel:
    signature = Signature.model_validate(uses["signature"])
    return StagedModel(uses["model"], folder / uses["file"], signature)
