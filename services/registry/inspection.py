"""Reading the signature out of an ONNX file. Imports onnx and onnxruntime: import at first use."""

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, Unavailable
from mcp_hub.services.inference.runtime import OnnxError, open_session
from mcp_hub.services.registry.views import (
    FieldKind,
    InputField,
    OutputField,
    Scalar,
    Signature,
)
from mcp_hub.services.roots import Roots

MAX_BYTES = 512 << 20

# The domains whose operators onnxruntime brings along.
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "string": "string",
    "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_LABELS = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")


def read_model(roots: Roots, source: str) -> tuple[bytes, Signature]:
    """The ONNX file that `source` names inside the roots, and the signature it has.

    Raises:
        InvalidArgument, Denied, NotFound, Unavailable: as `Roots.open` and `read_signature`.
        LimitExceeded: the file has more than 512 MiB.
    """
    with roots.open(source) as (path, file):
        try:
            model = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror}.") from error
    if len(model) > MAX_BYTES:
        raise LimitExceeded(f"{path} has more than {MAX_BYTES >> 20} MiB, the most for a model.")
    try:
        return model, read_signature(model)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"{path.name} cannot be registered. {error.message}", error.hint
        ) from error


def read_signature(model: bytes) -> Signature:
    """The inputs and outputs of a serialized ONNX model that the hub can serve.

    A float32 [n, 1] input is a `number`, a string [n, 1] input a `category`, any other a `tensor`.
    The class labels of a classifier are those that its nodes name.

    Raises:
        InvalidArgument: it is no ONNX model, is not whole in itself, or does not load.
    """
    parsed = _parse(model)
    nodes = list(_nodes(parsed))
    _check_whole(parsed, nodes)
    _check_operators(parsed, nodes)
    try:
        session = open_session(model, 1)
    except OnnxError as error:
        raise InvalidArgument(
            f"onnxruntime cannot load the model: {error}.",
            "Try it with onnxruntime.InferenceSession(path), then export it again.",
        ) from error
    outputs = session.get_outputs()
    return Signature(
        inputs=[_input(field.name, field.type, field.shape) for field in session.get_inputs()],
        outputs=_outputs([(field.name, field.type, field.shape) for field in outputs], nodes),
    )


def check_signature(model: bytes, signature: Signature) -> None:
    """Refuse a model that is not whole, does not load, or has not the declared inputs and outputs.

    Those agree in names and types; inputs also in shape, where both fix a size.

    Raises:
        InvalidArgument: says which.
    """
    parsed = _parse(model)
    _check_whole(parsed, list(_nodes(parsed)))
    try:
        session = open_session(model, 1)
    except OnnxError as error:
        raise InvalidArgument(f"The reported model is no ONNX that loads: {error}.") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _check_same("inputs", inputs, signature.inputs)
    _check_same("outputs", outputs, signature.outputs)
    shapes = {field.name: _sizes(field.shape) for field in inputs}
    for declared in signature.inputs:
        there = shapes[declared.name]
        pairs = zip(there, declared.shape, strict=False)
        differs = len(there) != len(declared.shape) or any(a != b and a and b for a, b in pairs)
        # A file may leave the shape of an input out.
        if there and differs:
            raise InvalidArgument(
                f"The reported model's input {declared.name!r} has the shape {there}, its "
                f"signature {declared.shape}."
            )


def _check_same(
    what: str, there: Sequence[Any], declared: Sequence[InputField | OutputField]
) -> None:
    names, said = {field.name for field in there}, {field.name for field in declared}
    if names != said:
        raise InvalidArgument(
            f"The reported model has the {what} {', '.join(sorted(names))}, "
            f"its signature {', '.join(sorted(said))}."
        )
    dtypes = {field.name: _tensor_dtype(field.type) or field.type for field in there}
    for field in declared:
        if dtypes[field.name] != field.dtype:
            raise InvalidArgument(
                f"The reported model has {field.name!r} in its {what} as {dtypes[field.name]}, "
                f"its signature as {field.dtype}."
            )


def _parse(model: bytes) -> ModelProto:
    try:
        parsed: ModelProto = ModelProto.FromString(model)
    except DecodeError as error:
        raise _not_onnx() from error
    if not parsed.graph.node:
        raise _not_onnx()
    return parsed


def _not_onnx() -> InvalidArgument:
    return InvalidArgument(
        "The file is not an ONNX model.",
        "Export the model first, as with skl2onnx.to_onnx or torch.onnx.export; pickled models "
        "are never loaded.",
    )


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Every node, those of subgraphs and functions included."""
    pending: list[GraphProto | FunctionProto] = [model.graph, *model.functions]
    while pending:
        for node in pending.pop().node:
            yield node
            for attribute in node.attribute:
                pending.extend(_graphs(attribute))


def _graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _check_whole(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Refuse weights kept in other files, wherever in the model they are named."""
    for tensor in _tensors(model, nodes):
        if tensor.data_location == TensorProto.EXTERNAL:
            location = next((e.value for e in tensor.external_data if e.key == "location"), "?")
            raise InvalidArgument(
                f"The model keeps weights in another file, {location[:200]!r}.",
                "Save it as one file: onnx.save(onnx.load(path), new_path).",
            )


def _tensors(model: ModelProto, nodes: list[NodeProto]) -> Iterator[TensorProto]:
    attributes = [attribute for node in nodes for attribute in node.attribute]
    for graph in [model.graph, *(graph for a in attributes for graph in _graphs(a))]:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)


def _check_operators(model: ModelProto, nodes: list[NodeProto]) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    custom = {
        f"{node.domain}.{node.op_type}"
        for node in nodes
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own
    }
    if custom:
        raise InvalidArgument(
            f"The model needs custom operators: {', '.join(sorted(custom)[:10])}.",
            "The hub runs the standard operators of ONNX and onnxruntime only.",
        )


def _input(name: str, kind: str, shape: list[Any]) -> InputField:
    dtype = _tensor_dtype(kind)
    if dtype is None:
        raise InvalidArgument(
            f"The model's input {name!r} is a {kind}, which rows of values cannot give.",
            f"Inputs must be tensors of {', '.join(sorted(_DTYPES.values()))}.",
        )
    sizes = _sizes(shape)
    column = sizes == [None, 1]
    meaning: FieldKind = "tensor"
    if column and dtype in ("float32", "string"):
        meaning = "number" if dtype == "float32" else "category"
    return InputField(name=name, dtype=dtype, shape=sizes, kind=meaning)


def _outputs(fields: list[tuple[str, str, list[Any]]], nodes: list[NodeProto]) -> list[OutputField]:
    """The outputs with their roles: a label beside a table of floats makes a classifier."""
    described = [
        OutputField(name=name, dtype=_tensor_dtype(kind) or kind, shape=_sizes(shape))
        for name, kind, shape in fields
    ]
    table = next((field for field in described if _is_table(field)), None)
    label = next((field for field in described if _is_label(field)), None)
    if table is None or label is None:
        _check_tensor(fields[0])
        described[0].role = "prediction"
        return described
    label.role, table.role = "prediction", "probabilities"
    table.classes = _class_labels(nodes, table.shape[1] if len(table.shape) == 2 else None)
    return described


def _check_tensor(output: tuple[str, str, list[Any]]) -> None:
    name, kind, _ = output
    if _tensor_dtype(kind) is None:
        raise InvalidArgument(
            f"The model's first output {name!r} is a {kind}, which predictions cannot show.",
            "Export it with a tensor as its first output.",
        )


def _is_table(field: OutputField) -> bool:
    is_floats = field.dtype in ("float32", "float64") and len(field.shape) == 2
    return is_floats or field.dtype.startswith("seq(map(")


def _is_label(field: OutputField) -> bool:
    is_column = len(field.shape) == 1 or field.shape[1:] == [1]
    return field.dtype in ("int64", "int32", "string", "bool") and is_column


def _class_labels(nodes: list[NodeProto], count: int | None) -> list[Scalar] | None:
    """The labels, if the graph's nodes name one list of them that fits `count` columns."""
    found: list[list[Scalar]] = []
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in _LABELS:
                labels: list[Scalar] = list(attribute.ints)
                labels = labels or [text.decode("utf-8", "replace") for text in attribute.strings]
                if labels and labels not in found and count in (None, len(labels)):
                    found.append(labels)
    return found[0] if len(found) == 1 else None


def _tensor_dtype(kind: str) -> str | None:
    return _DTYPES.get(kind.removeprefix("tensor(").removesuffix(")"))


def _sizes(shape: list[Any] | None) -> list[int | None]:
    """The shape, its first axis left open where the file names it or leaves it out."""
    return [size if isinstance(size, int) and size > 0 else None for size in shape or []]
