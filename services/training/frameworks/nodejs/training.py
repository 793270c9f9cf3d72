"""A job of the framework `nodejs`, from the data set's file to a model served and for browsers."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.frameworks.base import Place, TrainingTask
from mcp_hub.services.training.frameworks.nodejs import NodejsConfig
from mcp_hub.services.training.frameworks.nodejs.exporting import export
from mcp_hub.services.training.frameworks.nodejs.finding import Node, find_node
from mcp_hub.services.training.frameworks.nodejs.installing import installed
from mcp_hub.services.training.frameworks.nodejs.preparing import Prepared, prepare
from mcp_hub.services.training.frameworks.tabular.agreement import (
    OF_NETWORKS,
    Agreement,
    check_agreement,
)
from mcp_hub.services.training.frameworks.tabular.registering import (
    MODEL_FILE,
    register,
    versions_of,
)
from mcp_hub.services.training.frameworks.tabular.reports import Predicted
from mcp_hub.services.training.frameworks.tabular.table import report_scores, warnings_in_log
from mcp_hub.services.training.run import Run

_HERE = Path(__file__).parent
_FOR_BROWSERS = ("model.json", "weights.bin", "preprocessing.json", "prepare.mjs")
_LATER_STEPS = 2
_LIBRARIES = ("onnx", "onnxruntime", "numpy", "polars", "scikit-learn")


def train(task: TrainingTask, run: Run, place: Place) -> None:
    """Train as `NodejsFramework.train` says.

    The rows are read, split and made into matrices as `sklearn` does; Node fits the network, keeps
    it, and predicts the rows held out with what it kept, from raw rows as a browser would. Those
    predictions are scored, and the ONNX export must give the same.

    Raises:
        Unavailable: Node, or what it needs, is not installed and cannot be.
        InvalidArgument, LimitExceeded: the data or the config cannot give a model.
        Conflict: the ONNX model does not agree with TensorFlow.js.
    """
    node = find_node(place.node)
    if place.cache is None:
        raise Unavailable("This hub has no folder to install TensorFlow.js into.", "Set cache_dir.")
    packages = installed(node, place.cache, run.log)
    config = NodejsConfig.model_validate(dict(task.config))
    with warnings_in_log(run), threadpool_limits(limits=1, user_api="blas"):
        prepared = prepare(task, config, run)
        _report(prepared, config, run)
        folder = task.folder / "nodejs"
        folder.mkdir()
        _write(folder, prepared, config)
        fitted = _fit(node, packages, folder)
        _report_fitted(fitted, node, config, run)
        predicted = _predicted(folder, prepared)
        report_scores(task, run, prepared.held_out, predicted)
        run.progress(config.epochs + 1, config.epochs + _LATER_STEPS)
        path = task.folder / MODEL_FILE
        signature, agreement = _export(folder, path, prepared, predicted, config)
        for name in _FOR_BROWSERS:
            run.artifact(folder / name)
        register(run, path, signature, agreement, "TensorFlow.js", fitted["best_losses"])
        run.progress(config.epochs + _LATER_STEPS, config.epochs + _LATER_STEPS)


def _report(prepared: Prepared, config: NodejsConfig, run: Run) -> None:
    rows, aside = len(prepared.fitted), len(prepared.aside)
    run.param("rows_trained", rows)
    run.param("rows_validated", aside)
    run.param("rows_held_out", len(prepared.held_out))
    run.param("features", prepared.matrix.shape[1])
    watched = f"{aside} decide when to stop" if aside else "none decide when to stop: too few"
    run.log(
        f"{rows} rows to fit on, {watched}, {len(prepared.held_out)} held out "
        f"(seed {config.seed}); {prepared.matrix.shape[1]} features."
    )


def _write(folder: Path, prepared: Prepared, config: NodejsConfig) -> None:
    """Write what `train.mjs` reads."""
    targets = prepared.targets
    for name, rows in (("fit", prepared.fitted), ("validation", prepared.aside)):
        prepared.matrix[rows].astype("<f4").tofile(folder / f"{name}_inputs.bin")
        targets[rows].astype("<f4").tofile(folder / f"{name}_targets.bin")
    prepared.raw.write_ndjson(folder / "held_out.ndjson")
    width, target = prepared.matrix.shape[1], prepared.learned.target
    preprocessing = {
        "width": width,
        **prepared.features.describe(),
        "classes": target.classes,
        "shift": prepared.shift,
        "scale": prepared.scale,
    }
    spec = {
        "width": width,
        "classes": prepared.learned.classes,
        "fit_rows": len(prepared.fitted),
        "validation_rows": len(prepared.aside),
        "later_steps": _LATER_STEPS,
        **config.model_dump(
            include={
                "layers", "activation", "dropout", "l2", "learning_rate", "batch_size", "epochs",
                "patience", "seed",
            }
        ),
    }  # fmt: skip
    for name, content in (("preprocessing.json", preprocessing), ("spec.json", spec)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    shutil.copyfile(_HERE / "prepare.mjs", folder / "prepare.mjs")


def _fit(node: Node, packages: Path, folder: Path) -> dict[str, Any]:
    """Run `train.mjs`; what it says of the fit."""
    program = _HERE / "train.mjs"
    status = subprocess.run([node.program, program, folder, packages]).returncode
    if status:
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        raise Unavailable(f"Node {ended} while it trained.", "See training_logs.")
    fitted: dict[str, Any] = json.loads((folder / "fitted.json").read_text(encoding="utf-8"))
    if fitted["diverged"] is not None:
        raise InvalidArgument(
            f"The network diverged: its loss in epoch {fitted['diverged']} is not finite.",
            "Give a lower learning_rate, or fewer units.",
        )
    return fitted


def _report_fitted(fitted: dict[str, Any], node: Node, config: NodejsConfig, run: Run) -> None:
    run.param("epochs", {"run": fitted["epochs"], "best": fitted["best_epoch"]})
    run.param(
        "versions",
        {"node": node.version, "tfjs": fitted["tfjs"]} | versions_of(_LIBRARIES),
    )
    stopped = "the most" if fitted["epochs"] == config.epochs else "no lower loss since the best"
    run.log(
        f"Fitted for {fitted['epochs']} epochs ({stopped}); the weights of epoch "
        f"{fitted['best_epoch']} are kept."
    )


def _predicted(folder: Path, prepared: Prepared) -> Predicted:
    """What TensorFlow.js predicts of the rows held out."""
    values = np.fromfile(folder / "predictions.bin", dtype="<f4").astype(np.float64)
    classes = prepared.learned.classes
    if not classes:
        return Predicted(values)
    probabilities = values.reshape(-1, classes)
    return Predicted(probabilities.argmax(axis=1), probabilities)


def _export(
    folder: Path,
    path: Path,
    prepared: Prepared,
    predicted: Predicted,
    config: NodejsConfig,
) -> tuple[Signature, Agreement]:
    signature = export(folder, prepared, config.activation, path)
    held_out, spread = prepared.held_out, float(prepared.learned.target.values.std())
    agreement = check_agreement(path, signature, held_out.arrays, predicted, spread, OF_NETWORKS)
    return signature, agreement
