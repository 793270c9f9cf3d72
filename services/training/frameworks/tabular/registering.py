"""Reporting a model's file, after it was shown to predict what the model does."""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.frameworks.tabular.agreement import Agreement
from mcp_hub.services.training.frameworks.tabular.graph import OPSET
from mcp_hub.services.training.run import Run

MODEL_FILE = "model.onnx"


def register(
    run: Run,
    path: Path,
    signature: Signature,
    agreement: Agreement,
    of: str,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Report the exported file as the job's model; `of` is what it agrees with, for the log, and
    `metrics` are as `Run.model` takes them."""
    size = path.stat().st_size
    run.param("agreement", asdict(agreement))
    run.param("onnx", {"opset": OPSET, "bytes": size})
    run.log(
        f"Exported to ONNX, {size} bytes; agrees with {of} on {agreement.rows} held-out rows to "
        f"{agreement.difference:.1e}."
    )
    run.model(path, signature, metrics=metrics)


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of Python and of these packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in distributions}}
