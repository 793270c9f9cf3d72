"""The proof that a model's file predicts the same as the fitted model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.errors import Conflict
from mcp_hub.services.cores import usable_cores
from mcp_hub.services.inference.encoding import Arrays
from mcp_hub.services.inference.runtime import OnnxError, open_session, run_session
from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.frameworks.tabular.features import take
from mcp_hub.services.training.frameworks.tabular.reports import Predicted

TOLERANCE = 1e-4
OF_NETWORKS = "Another learning rate or seed may give a model whose sums are less sensitive."
"""What to try where a network does not agree."""

_CELLS_AT_ONCE = 10_000_000


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the graph's predictions are from the estimator's.

    `difference` is the greatest: of probabilities as it is; of numbers relative to the prediction
    or, where that is greater, to the spread of the target.
    """

    rows: int
    difference: float
    labels_differing: int = 0


def check_agreement(
    path: Path,
    signature: Signature,
    arrays: Arrays,
    predicted: Predicted,
    spread: float,
    remedy: str,
) -> Agreement:
    """Compare the served file's predictions on raw rows with the fitted model's.

    Probabilities may differ by 1e-4. Labels must be equal, but where the two greatest
    probabilities are within 1e-4 of each other. Numbers may differ by 1e-4 of the prediction or
    of `spread`, the standard deviation of the target, whichever is greater. `remedy` is the hint
    of what to try where they do not agree.

    Raises:
        Conflict: they do not agree, or the file cannot be run.
    """
    names = [output.name for output in signature.outputs]
    try:
        served = run_file(path, names, arrays, len(predicted.values))
    except OnnxError as error:
        raise Conflict(
            f"onnxruntime cannot run the model, so it is not registered: {error}",
            remedy,
        ) from error
    if predicted.probabilities is None:
        agreement = _compare_numbers(served[0], predicted.values, spread)
    else:
        classes = signature.outputs[0].classes or []
        labels = np.array([classes[code] for code in predicted.values], dtype=object)
        agreement = _compare_classes(served[0], served[1], labels, predicted.probabilities)
    if not agreement.difference <= TOLERANCE or agreement.labels_differing:
        wrong = f", {agreement.labels_differing} labels" if agreement.labels_differing else ""
        raise Conflict(
            f"The ONNX model does not agree with the estimator on {agreement.rows} held-out rows: "
            f"predictions differ by up to {agreement.difference:.2g}{wrong} "
            f"(allowed: {TOLERANCE:g}). It is not registered.",
            remedy,
        )
    return agreement


def run_file(path: Path, names: list[str], arrays: Arrays, rows: int) -> list[NDArray[Any]]:
    """The named outputs of a model's file on raw rows. Raises OnnxError."""
    session = open_session(path.read_bytes(), len(usable_cores()))
    width = max(1, sum(array.shape[1] for array in arrays.values()))
    size = max(1, min(rows, _CELLS_AT_ONCE // width, 2_000))
    parts = [
        run_session(session, names, take(arrays, np.arange(start, min(start + size, rows))))
        for start in range(0, rows, size)
    ]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _compare_numbers(served: NDArray[Any], expected: NDArray[Any], spread: float) -> Agreement:
    differences = np.abs(served[:, 0] - expected) / np.maximum(np.abs(expected), spread)
    return Agreement(len(expected), float(differences.max()))


def _compare_classes(
    served_labels: NDArray[Any],
    served_probabilities: NDArray[Any],
    labels: NDArray[Any],
    probabilities: NDArray[np.float64],
) -> Agreement:
    top = np.sort(probabilities, axis=1)[:, -2:]
    is_close_call = top[:, 1] - top[:, 0] <= TOLERANCE
    differing = (served_labels.astype(object) != labels) & ~is_close_call
    differences = np.abs(served_probabilities - probabilities)
    return Agreement(len(labels), float(differences.max()), int(differing.sum()))
