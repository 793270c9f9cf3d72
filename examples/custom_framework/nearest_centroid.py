"""A framework of one's own: the class whose mean is nearest, on the numbers of a table."""

from typing import ClassVar

from pydantic import Field

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.views import InputField, Signature
from mcp_hub.services.training.frameworks.base import FrameworkConfig, TrainingTask
from mcp_hub.services.training.run import Run


class NearestCentroidConfig(FrameworkConfig):
    test_share: float = Field(0.2, gt=0, lt=1, description="The share of rows held out")


class NearestCentroidFramework:
    name: ClassVar[str] = "nearest_centroid"
    description: ClassVar[str] = "The class whose mean is nearest, on a table's numbers."
    types: ClassVar[tuple[str, ...]] = ("classification",)
    Config: ClassVar[type[FrameworkConfig]] = NearestCentroidConfig
    preload: ClassVar[tuple[str, ...]] = ()

    def missing(self) -> str | None:
        return None

    def train(self, task: TrainingTask, run: Run) -> None:
        # The server loads this module to check a config: what is heavy is imported here.
        import polars as pl
        from onnx import TensorProto

        from mcp_hub.services.data.reading import read_frame
        from mcp_hub.services.training.frameworks.tabular.graph import Graph, float_constant
        from mcp_hub.services.training.frameworks.tabular.outputs import class_outputs

        target = task.target or ""
        frame = read_frame(task.dataset_file, task.dataset_format, task.dataset_options)
        rows = frame.drop_nulls().sample(fraction=1, shuffle=True, seed=0)
        names = [c.name for c in rows if c.dtype.is_numeric() and c.name != target]
        if not names:
            raise InvalidArgument("There is no column of numbers to learn from.")
        split = int(rows.height * NearestCentroidConfig.model_validate(task.config).test_share)
        held_out, learned = rows[:split], rows[split:]
        means = learned.group_by(target).agg(pl.col(names).mean()).sort(target)
        centroids = means.select(names).to_numpy()
        # The nearest centroid has the greatest x·c - |c|²/2, which ONNX has an operator for.
        weights, bias = centroids.T, -(centroids**2).sum(axis=1) / 2
        scores = held_out.select(names).to_numpy() @ weights + bias
        predicted = means[target].to_numpy()[scores.argmax(axis=1)]
        run.metric("accuracy", (predicted == held_out[target].to_numpy()).mean())
        graph = Graph()
        table = graph.concat([graph.input(name, TensorProto.FLOAT, 1) for name in names])
        constants = [graph.constant(float_constant(values)) for values in (weights, bias)]
        table = graph.apply("Softmax", graph.apply("Gemm", table, *constants), axis=1)
        number = {"dtype": "float32", "shape": [None, 1], "kind": "number", "nullable": False}
        inputs = [InputField(name=name, **number) for name in names]
        outputs = class_outputs(graph, table, means[target].to_list(), inputs)
        (task.folder / "model.onnx").write_bytes(graph.model().SerializeToString())
        run.model("model.onnx", Signature(inputs=inputs, outputs=outputs))
