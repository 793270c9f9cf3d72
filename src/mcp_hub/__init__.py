"""MCP Hub: one MCP server through which an LLM agent does machine learning for real."""

import os
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp_hub.services.training.run import run

__all__ = ["__version__", "run"]

# Unless told before it is imported, onnxruntime reports each model it loads to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_LAZY = {"run": "mcp_hub.services.training.run"}


@cache
def _version() -> str:
    return version("mcp-hub")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
