"""Which columns of a data set feed which inputs of a model; light, for the hub's own process."""

from collections.abc import Sequence
from math import prod

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.registry.views import InputField, ModelView

_SHOWN = 10


def choose_features(
    view: ModelView, columns: Sequence[str], target: str | None, features: Sequence[str] | None
) -> list[str] | None:
    """The columns that make a model's one tensor, in order; None where its inputs name columns.

    Without `features` these are all columns but `target`, if just as many as the tensor takes.

    Raises:
        InvalidArgument: the data set lacks a column, or has another number of them.
    """
    inputs = view.signature.inputs
    if features is None and all(field.name in columns for field in inputs):
        return None
    if not _is_matrix(inputs):
        if features is not None:
            raise InvalidArgument(
                f"{view.model} takes its columns by name, so features cannot be given.",
                "Leave features out; the data set's columns must have the names of the inputs.",
            )
        missing = [field.name for field in inputs if field.name not in columns]
        shown = ", ".join(repr(name) for name in missing[:_SHOWN])
        raise InvalidArgument(
            f"The data set lacks {len(missing)} of the {len(inputs)} columns that {view.model} "
            f"takes: {shown}{' …' if len(missing) > _SHOWN else ''}.",
            names_hint(missing[0], columns, "columns"),
        )
    chosen = [name for name in columns if name != target] if features is None else list(features)
    for name in chosen:
        if name not in columns:
            raise InvalidArgument(
                f"features names {name!r}, which is no column of the data set.",
                names_hint(name, columns, "columns"),
            )
    width = inputs[0].shape[1]
    if not chosen or (width is not None and len(chosen) != width):
        raise InvalidArgument(
            f"{view.model} takes {width} numbers a row in its input {inputs[0].name!r}, and "
            f"{len(chosen)} columns would be given: {', '.join(chosen[:_SHOWN])}"
            f"{' …' if len(chosen) > _SHOWN else ''}.",
            "Name the columns in the order of the model's training: features=[…].",
        )
    return chosen


def output_names(view: ModelView, probabilities: bool) -> list[str]:
    """The columns that predictions add to a data set, as far as the signature tells them."""
    names = ["prediction"]
    for field in view.signature.outputs:
        if field.role == "probabilities" and probabilities:
            names += [f"probability_{label_name(label)}" for label in field.classes or []]
        elif field.role == "score":
            names += score_names(field.shape)
    return names


def score_names(shape: Sequence[int | None]) -> list[str]:
    """The columns of an output of scores: one, or one for each cluster."""
    width = prod(size or 1 for size in shape[1:])
    return ["score"] if width == 1 else [f"score_{index}" for index in range(width)]


def label_name(label: object) -> str:
    """A class as part of a column's name; as JSON has it."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def _is_matrix(inputs: Sequence[InputField]) -> bool:
    return len(inputs) == 1 and inputs[0].kind == "tensor" and len(inputs[0].shape) == 2
