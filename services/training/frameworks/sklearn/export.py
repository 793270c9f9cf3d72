"""A fitted model as one ONNX graph from raw columns."""

from pathlib import Path

from onnx.checker import ValidationError
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from mcp_hub.adapters.errors import Conflict
from mcp_hub.services.registry.views import InputField, Scalar, Signature
from mcp_hub.services.training.frameworks.sklearn.fitting import Model
from mcp_hub.services.training.frameworks.sklearn.voting import Vote
from mcp_hub.services.training.frameworks.tabular.graph import (
    ML_DOMAIN,
    ML_OPSET,
    OPSET,
    Graph,
)
from mcp_hub.services.training.frameworks.tabular.outputs import (
    class_outputs,
    in_unit,
    number_output,
)

OTHER_ESTIMATORS = "Use another estimator; logistic_regression, ridge and random_forest convert."


def export(
    model: Model | Vote, inputs: list[InputField], classes: list[Scalar] | None, path: Path
) -> Signature:
    """Write the model to `path`; its signature.

    Raises:
        Conflict: the estimator cannot be converted, with these params.
    """
    graph = Graph()
    model.features.add_inputs_to(graph)
    scales = dict.fromkeys(member.kind.scales_inputs for member in model.members)
    matrices = {scaled: model.features.add_matrix_to(graph, scaled) for scaled in scales}
    try:
        results = [
            _member(graph, member, matrices[member.kind.scales_inputs], classes is not None)
            for member in model.members
        ]
        result = results[0] if len(results) == 1 else graph.apply("Mean", *results)
        outputs = (
            class_outputs(graph, result, classes, inputs)
            if classes
            else number_output(graph, result, (0.0, 1.0), inputs)
        )
        path.write_bytes(graph.model().SerializeToString())
    except (RuntimeError, NotImplementedError, ValueError, TypeError, ValidationError) as error:
        raise Conflict(
            f"The model cannot be converted to ONNX, so it is not registered: {error}",
            f"Other params may convert. {OTHER_ESTIMATORS}",
        ) from error
    return Signature(inputs=inputs, outputs=outputs)


def _member(graph: Graph, model: Model, matrix: str, classifies: bool) -> str:
    """A fitted estimator's table of probabilities, or its numbers [rows, 1] in their own scale."""
    width = model.estimator.n_features_in_
    converted = convert_sklearn(
        model.estimator,
        initial_types=[("features", FloatTensorType([None, width]))],
        options={id(model.estimator): {"zipmap": False}} if classifies else None,
        target_opset={"": OPSET, ML_DOMAIN: ML_OPSET},
    )
    results = graph.embed(converted, matrix)
    if classifies:
        return results[1]
    return in_unit(graph, results[0], (model.shift, model.scale))
