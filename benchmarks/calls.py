"""Time of a call: `model_get` of `mcp-hub` against the echo of a bare `mcp` server, over stdio.

Both servers run at once and are called in turn, after a warm-up, by the same thin client. The
ratio is that of the p50s. The model is an ONNX graph with ten named inputs, registered through
the hub; its answer is about 3 kB, which the echo does not have to write.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from stdio import BARE, StdioServer, hub_command

LIMIT = 1.5
TEXT = "x" * 32


def timed(server: StdioServer, tool: str, arguments: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    server.call(tool, arguments)
    return time.perf_counter() - began


def write_model(path: Path) -> None:
    """An ONNX graph that adds its ten inputs: a signature as long as a small table's."""
    from onnx import TensorProto, helper, save

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])

    columns = [f"column_{number}" for number in range(10)]
    graph = helper.make_graph(
        [helper.make_node("Sum", columns, ["prediction"])],
        "sum",
        [value(column) for column in columns],
        [value("prediction")],
    )
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bare_ms, hub_ms = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        StdioServer(BARE) as bare,
        StdioServer(hub_command(Path(folder))) as hub,
    ):
        write_model(Path(folder) / "sum.onnx")
        bare.initialize()
        hub.initialize()
        metrics = {"accuracy": 0.97, "f1_macro": 0.96}
        hub.call("model_register", {"name": "sum", "path": "sum.onnx", "metrics": metrics})
        for number in range(options.warm_up + options.calls):
            echo = timed(bare, "echo", {"text": TEXT})
            get = timed(hub, "model_get", {"model": "sum"})
            if number >= options.warm_up:
                bare_ms.append(echo * 1000)
                hub_ms.append(get * 1000)
    result = {
        "ratio": median(hub_ms) / median(bare_ms),
        "limit": LIMIT,
        "bare_ms": median(bare_ms),
        "hub_ms": median(hub_ms),
        "calls": options.calls,
    }
    if options.json:
        print(json.dumps(result))
        return
    print("one call over stdio, p50 of", options.calls, "interleaved calls")
    print(f"  bare mcp server, echo  {result['bare_ms']:6.2f} ms")
    print(f"  mcp-hub, model_get     {result['hub_ms']:6.2f} ms")
    print(f"  ratio                  {result['ratio']:6.2f}    (at most {LIMIT})")


if __name__ == "__main__":
    main()
