"""MCP Hub: one MCP server through which an LLM agent does machine learning for real."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp_hub.services.training.run import run

__all__ = ["__version__", "run"]

_LAZY = {"run": "mcp_hub.services.training.run"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("mcp-hub")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
