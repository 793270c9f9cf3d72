"""The network, and the same as ONNX."""

from pathlib import Path

import torch
from torch import nn

from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.frameworks.pytorch import PytorchConfig
from mcp_hub.services.training.frameworks.tabular.features import Features
from mcp_hub.services.training.frameworks.tabular.graph import Graph
from mcp_hub.services.training.frameworks.tabular.outputs import class_outputs, number_output
from mcp_hub.services.training.frameworks.tabular.rows import Data


def build_network(width: int, outputs: int, config: PytorchConfig) -> nn.Sequential:
    """A perceptron from features [rows, width] to [rows, outputs]: logits, or one number."""
    torch.manual_seed(config.seed)
    layers: list[nn.Module] = []
    for units in config.hidden:
        layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(config.dropout)]
        width = units
    layers.append(nn.Linear(width, outputs))
    return nn.Sequential(*layers)


def export(
    network: nn.Sequential, features: Features, data: Data, shift: float, scale: float, path: Path
) -> Signature:
    """Write the network, and the features before it, to `path`; the signature.

    The graph is made of the few operators that there are, without torch's exporter: it has the
    features and the labels in it, and needs nothing but onnx.
    """
    graph = Graph()
    value = features.add_to(graph, scaled=True)
    for layer in network:
        if isinstance(layer, nn.Linear):
            weights = (layer.weight, layer.bias)
            constants = [graph.constant(w.detach().cpu().numpy()) for w in weights]
            value = graph.apply("Gemm", value, *constants, transB=1)
        elif isinstance(layer, nn.ReLU):
            value = graph.apply("Relu", value)
    if data.target.classes:
        table = graph.apply("Softmax", value, axis=1)
        outputs = class_outputs(graph, table, data.target.classes, data.inputs)
    else:
        outputs = number_output(graph, value, (shift, scale), data.inputs)
    path.write_bytes(graph.model().SerializeToString())
    return Signature(inputs=data.inputs, outputs=outputs)
