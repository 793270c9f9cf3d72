import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, LimitExceeded, NotFound
from mcp_hub.services.registry.inspection import check_signature, read_signature
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.registry.views import InputField, OutputField
from tests.services import onnx_models


def model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    initializers: list[Any] | None = None,
    domains: tuple[str, ...] = ("",),
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers or [])
    opsets = [helper.make_opsetid(domain, 1 if domain else 17) for domain in domains]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def value(name: str, kind: int = TensorProto.FLOAT, shape: list[Any] | None = None) -> Any:
    return helper.make_tensor_value_info(name, kind, ["n", 1] if shape is None else shape)


def identity(kind: int, shape: list[Any]) -> bytes:
    node = helper.make_node("Identity", ["x"], ["y"])
    return model([node], [value("x", kind, shape)], [value("y", kind, shape)])


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        (TensorProto.FLOAT, ["n", 1], ("float32", [None, 1], "number")),
        (TensorProto.FLOAT, [None, 1], ("float32", [None, 1], "number")),
        (TensorProto.STRING, ["n", 1], ("string", [None, 1], "category")),
        (TensorProto.FLOAT, ["n", 4], ("float32", [None, 4], "tensor")),
        (TensorProto.FLOAT, ["n"], ("float32", [None], "tensor")),
        (TensorProto.FLOAT, ["n", 3, "h", "w"], ("float32", [None, 3, None, None], "tensor")),
        (TensorProto.FLOAT, [1, 4], ("float32", [1, 4], "tensor")),
        (TensorProto.DOUBLE, ["n", 1], ("float64", [None, 1], "tensor")),
        (TensorProto.INT64, ["n", 1], ("int64", [None, 1], "tensor")),
        (TensorProto.UINT8, ["n", 2], ("uint8", [None, 2], "tensor")),
        (TensorProto.BOOL, ["n", 1], ("bool", [None, 1], "tensor")),
    ],
)
def test_inputs_get_a_kind_by_type_and_shape(
    kind: int, shape: list[Any], expected: tuple[Any, ...]
) -> None:
    dtype, sizes, meaning = expected
    signature = read_signature(identity(kind, shape))
    assert signature.inputs == [InputField(name="x", dtype=dtype, shape=sizes, kind=meaning)]
    assert signature.outputs == [OutputField(name="y", dtype=dtype, shape=sizes, role="prediction")]


@pytest.mark.parametrize("zipmap", [False, True])
def test_a_classifier_is_seen_with_its_classes(zipmap: bool) -> None:
    label, table = read_signature(onnx_models.matrix_file(zipmap)).outputs
    assert (label.role, label.dtype) == ("prediction", "int64")
    assert (table.role, table.classes) == ("probabilities", [0, 1, 2])


def test_named_classes_are_seen() -> None:
    signature = read_signature(onnx_models.iris().onnx)
    assert [field.kind for field in signature.inputs] == ["number"] * 4
    assert signature.outputs == onnx_models.iris().signature.outputs


def test_a_regression_is_seen() -> None:
    [output] = read_signature(onnx_models.diabetes().onnx).outputs
    assert (output.role, output.shape, output.classes) == ("prediction", [None, 1], None)


def external_initializer() -> bytes:
    weights = numpy_helper.from_array(np.ones((1,), np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../etc/passwd")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return model([node], [value("x")], [value("y")], [weights])


def external_constant_in_a_branch() -> bytes:
    constant = numpy_helper.from_array(np.ones((1,), np.float32), "c")
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="weights.bin")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=constant)], "b", [], [value("c", shape=[1])]
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    return model([node], [value("x", TensorProto.BOOL, [1])], [value("y", shape=[1])])


def custom_operator() -> bytes:
    node = helper.make_node("Magic", ["x"], ["y"], domain="com.example")
    return model([node], [value("x")], [value("y")], domains=("", "com.example"))


def custom_operator_in_a_branch() -> bytes:
    inner = helper.make_graph(
        [helper.make_node("Magic", [], ["c"], domain="com.example")],
        "b",
        [],
        [value("c", shape=[1])],
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    return model(
        [node],
        [value("x", TensorProto.BOOL, [1])],
        [value("y", shape=[1])],
        domains=("", "com.example"),
    )


def dangling_edge() -> bytes:
    return model([helper.make_node("Relu", ["nowhere"], ["y"])], [value("x")], [value("y")])


def sequence_input() -> bytes:
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    node = helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)
    return model([node], [sequence], [value("y")])


def sequence_output() -> bytes:
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    return model([helper.make_node("SequenceConstruct", ["x"], ["y"])], [value("x")], [sequence])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "is not an ONNX model"),
        (lambda: b"\x80\x04\x95pickled", "is not an ONNX model"),
        (lambda: b"PK\x03\x04", "is not an ONNX model"),
        (lambda: b"a,b\n1,2\n", "is not an ONNX model"),
        (lambda: onnx_models.iris().onnx[:400], "is not an ONNX model"),
        (lambda: onnx.ModelProto(ir_version=8).SerializeToString(), "is not an ONNX model"),
        (external_initializer, "keeps weights in another file, '../../etc/passwd'"),
        (external_constant_in_a_branch, "keeps weights in another file, 'weights.bin'"),
        (custom_operator, "needs custom operators: com.example.Magic"),
        (custom_operator_in_a_branch, "needs custom operators: com.example.Magic"),
        (dangling_edge, "onnxruntime cannot load the model"),
        (sequence_input, "input 'x' is a seq(tensor(float))"),
        (sequence_output, "output 'y' is a seq(tensor(float))"),
    ],
)
async def test_what_cannot_be_served_is_refused_and_nothing_written(
    registry: RegistryService,
    roots: Path,
    tmp_path: Path,
    make: Callable[[], bytes],
    message: str,
) -> None:
    (roots / "model.onnx").write_bytes(make())
    with pytest.raises(InvalidArgument) as refused:
        await registry.register("iris", "model.onnx", created_by="tester")
    assert refused.value.message.startswith("model.onnx cannot be registered. ")
    assert message in refused.value.message
    assert refused.value.hint
    await nothing_was_written(registry, tmp_path)


def test_functions_of_the_model_itself_are_no_custom_operators() -> None:
    function = helper.make_function(
        "com.example",
        "Double",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    node = helper.make_node("Double", ["x"], ["y"], domain="com.example")
    graph = helper.make_graph([node], "g", [value("x")], [value("y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    made = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8)
    assert read_signature(made.SerializeToString()).inputs[0].name == "x"


async def test_a_file_becomes_the_next_version(
    registry: RegistryService, roots: Path, blobs: FileBlobStore
) -> None:
    file = roots / "exports" / "iris.onnx"
    file.parent.mkdir()
    file.write_bytes(onnx_models.iris().onnx)
    first = await registry.register("iris", str(file), created_by="tester")
    second = await registry.register(
        "iris",
        "exports/iris.onnx",
        description="From a notebook",
        tags={"team": "plants"},
        metrics={"accuracy": 0.97},
        created_by="tester",
    )
    assert (first.model, second.model) == ("iris:1", "iris:2")
    assert second == await registry.get("iris")
    assert (second.flavor, second.description) == ("onnx", "From a notebook")
    assert (second.tags, second.metrics) == ({"team": "plants"}, {"accuracy": 0.97})
    assert (second.job_id, second.dataset, second.created_by) == (None, None, "tester")
    [artifact] = second.artifacts
    assert artifact.name == "model.onnx"
    assert await blobs.get(artifact.sha256) == onnx_models.iris().onnx


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "a b"}, InvalidArgument, "is not a name for a model"),
        ({"path": "missing.onnx"}, NotFound, "There is no file"),
        ({"path": "."}, InvalidArgument, "is a folder"),
        ({"path": ""}, InvalidArgument, "path is empty"),
        ({"path": "../outside.onnx"}, Denied, "outside"),
        ({"path": "link.onnx"}, Denied, "outside"),
        ({"path": "https://example.com/iris.onnx"}, InvalidArgument, "not a local file"),
        ({"tags": {"a b": "x"}}, InvalidArgument, "is not a key for a tag"),
        ({"metrics": {"accuracy": float("nan")}}, InvalidArgument, "must be a finite number"),
        ({"metrics": {"": 1.0}}, InvalidArgument, "cannot name a metric"),
        ({"metrics": {f"m{n}": 1.0 for n in range(201)}}, LimitExceeded, "201 metrics"),
        ({"description": "a" * 4001}, LimitExceeded, "description has 4001 characters"),
    ],
)
async def test_other_arguments_are_refused_and_nothing_written(
    registry: RegistryService,
    roots: Path,
    tmp_path: Path,
    arguments: dict[str, Any],
    error: type[HubError],
    message: str,
) -> None:
    outside = tmp_path / "outside.onnx"
    outside.write_bytes(onnx_models.iris().onnx)
    (roots / "iris.onnx").write_bytes(onnx_models.iris().onnx)
    (roots / "link.onnx").symlink_to(outside)
    wanted = {"name": "iris", "path": "iris.onnx", "created_by": "tester"} | arguments
    with pytest.raises(error, match=message):
        await registry.register(**wanted)
    await nothing_was_written(registry, tmp_path)


async def test_a_huge_file_is_refused(
    registry: RegistryService, roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_hub.services.registry.inspection.MAX_BYTES", 1 << 20)
    with (roots / "huge.onnx").open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(LimitExceeded, match="more than 1 MiB"):
        await registry.register("iris", "huge.onnx", created_by="tester")
    await nothing_was_written(registry, tmp_path)


async def nothing_was_written(registry: RegistryService, folder: Path) -> None:
    assert (await registry.list()).items == []
    assert not (folder / "blobs").exists()


def test_a_model_that_has_what_was_declared_is_taken() -> None:
    for trained in (onnx_models.iris(), onnx_models.diabetes()):
        check_signature(trained.onnx, trained.signature)
    open_ended = read_signature(identity(TensorProto.FLOAT, ["n", 4]))
    check_signature(identity(TensorProto.FLOAT, ["n", "m"]), open_ended)
    node = helper.make_node("Identity", ["x"], ["y"])
    shapeless = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    check_signature(model([node], shapeless[:1], shapeless[1:]), open_ended)


@pytest.mark.parametrize(
    ("file", "declared", "message"),
    [
        (identity(TensorProto.DOUBLE, ["n", 1]), ["n", 1], "'x' in its inputs as float64"),
        (identity(TensorProto.FLOAT, ["n", 4]), ["n", 1], "'x' has the shape [None, 4]"),
        (identity(TensorProto.FLOAT, ["n"]), ["n", 1], "'x' has the shape [None]"),
        (external_initializer(), ["n", 1], "keeps weights in another file"),
        (b"a,b\n1,2\n", ["n", 1], "is not an ONNX model"),
    ],
)
def test_a_model_that_is_not_as_declared_is_refused(
    file: bytes, declared: list[Any], message: str
) -> None:
    signature = read_signature(identity(TensorProto.FLOAT, declared))
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        check_signature(file, signature)
