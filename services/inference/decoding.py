"""From the tensors of an ONNX graph to predictions in JSON, as its outputs' signature says."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.registry.views import OutputField, Scalar

MOST_VALUES = 500_000
_DIGITS = 6


class Decoded(NamedTuple):
    """Predictions and, where a model gives them, the probability of each class and scores, a row
    each."""

    predictions: list[Any]
    probabilities: list[dict[str, float | None]] | None
    scores: list[Any] | None = None


def wanted_outputs(outputs: Sequence[OutputField]) -> list[OutputField]:
    """The outputs that make a prediction: those with such a role, otherwise the first."""
    return [field for field in outputs if field.role != "other"] or list(outputs[:1])


def decode_outputs(outputs: Sequence[OutputField], values: Sequence[Any]) -> Decoded:
    """The `wanted_outputs` of a model, given their `values` in the same order.

    A label stands for the class that equals it: text for text, a number for a number, 0 and 1 for
    false and true. Labels that equal no class, and classifiers that give no label, are decided by
    the greatest probability. A regression of one value a row becomes plain numbers. What is not
    finite becomes None.

    Raises:
        LimitExceeded: there are more than 500,000 values.
    """
    by_role = {field.role: (field, value) for field, value in zip(outputs, values, strict=True)}
    if sum(_count(value) for value in values) > MOST_VALUES:
        raise LimitExceeded(
            f"The model's answer has more than {MOST_VALUES:,} values.",
            "Split the rows over several calls.",
        )
    probabilities = None
    chosen = None
    classes = _classes(outputs)
    if "probabilities" in by_role:
        field, table = by_role["probabilities"]
        if isinstance(table, list):
            # A sequence of maps, class to probability, as skl2onnx has it unless told otherwise.
            probabilities = [_named(row) for row in table]
        elif field.classes and table.shape[1:] == (len(field.classes),):
            probabilities = _by_class(field.classes, table)
            chosen = [field.classes[index] for index in np.argmax(table, axis=1)]
    if "prediction" in by_role:
        predictions = _labels(by_role["prediction"][1], classes, chosen)
    elif chosen is not None:
        predictions = list(chosen)
    else:
        predictions = _native(np.asarray(values[0]))
    scores = _native(by_role["score"][1]) if "score" in by_role else None
    return Decoded(predictions, probabilities, scores)


def _classes(outputs: Sequence[OutputField]) -> list[Scalar]:
    return next((field.classes for field in outputs if field.classes), [])


def _labels(
    values: NDArray[Any], classes: Sequence[Scalar], chosen: list[Scalar] | None
) -> list[Any]:
    labels = _native(values)
    if not classes or any(isinstance(label, list) for label in labels):
        return labels
    # 1 == True and 1.0 == 1, with equal hashes: just what is meant here.
    meant = {label: label for label in classes}
    if all(label in meant for label in labels):
        return [meant[label] for label in labels]
    return labels if chosen is None else list(chosen)


def _by_class(classes: Sequence[Scalar], table: NDArray[Any]) -> list[dict[str, float | None]]:
    names = [_key(label) for label in classes]
    return [dict(zip(names, row, strict=True)) for row in _rounded(table)]


def _named(row: Mapping[Any, float]) -> dict[str, float | None]:
    return dict(zip(map(_key, row), _rounded(np.array(list(row.values()))), strict=True))


def _rounded(values: NDArray[Any]) -> list[Any]:
    return _finite(np.round(values.astype(np.float64), _DIGITS))


def _key(label: Scalar) -> str:
    return label if isinstance(label, str) else json.dumps(label)


def _native(values: NDArray[Any]) -> list[Any]:
    """The values as nested lists; one value a row becomes the value itself."""
    if values.ndim == 0 or values.size == len(values):
        values = values.reshape(-1)
    if values.dtype.kind != "f":
        return list(values.tolist())
    # Through text, for the shortest decimals: 0.1 instead of float32's 0.10000000149011612.
    return _finite(values.astype(np.str_).astype(np.float64))


def _finite(values: NDArray[Any]) -> list[Any]:
    finite = np.isfinite(values)
    if not finite.all():
        values = values.astype(object)
        values[~finite] = None
    return list(values.tolist())


def _count(value: Any) -> int:
    return value.size if isinstance(value, np.ndarray) else sum(map(len, value))
