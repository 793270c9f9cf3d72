"""The framework `script`: any program inside the roots trains; the hub only follows it.

What such a program is given and may report is told in docs/frameworks.md.
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from pydantic import Field, field_validator

from mcp_hub.adapters.errors import Denied, InvalidArgument
from mcp_hub.services.roots import Roots
from mcp_hub.services.training.frameworks.base import (
    NOWHERE,
    FrameworkConfig,
    Place,
    TrainingTask,
)
from mcp_hub.services.training.run import Run

_MOST_BYTES = 64_000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOADS_OTHER_CODE = re.compile(
    r"LD_.*|DYLD_.*|GCONV_PATH|PATH|IFS|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|"
    r"BASH_FUNC.*|PYTHON.*|NODE_.*|PERL.*|RUBY.*|GEM_.*|R_.*|JULIA_.*|JAVA_.*|_JAVA_.*|JDK_.*|"
    r"CLASSPATH|LUA_.*"
)
"""Variables by which a loader, shell or interpreter takes code from outside the roots."""


class ScriptConfig(FrameworkConfig):
    """Which program to run, and how."""

    program: str = Field(
        min_length=1,
        description="A Python file (.py), or a file that may be executed, inside the roots",
    )
    args: list[str] = Field(default=[], max_length=1_000, description="Its arguments")
    env: dict[str, str] = Field(
        default={},
        description="Variables besides those of the hub; they are kept and shown: no secrets",
    )

    @field_validator("env")
    @classmethod
    def _are_free(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name[:80]!r} cannot name a variable")
            if name.upper().startswith("MCP_HUB_"):
                raise ValueError(f"{name} is the hub's own: MCP_HUB_… are set by the hub")
            if _LOADS_OTHER_CODE.fullmatch(name.upper()):
                raise ValueError(f"{name} could make the program load code from outside the roots")
        return env

    @field_validator("args", "env")
    @classmethod
    def _can_be_passed(cls, value: list[str] | dict[str, str]) -> list[str] | dict[str, str]:
        texts = value if isinstance(value, list) else [f"{k}={v}" for k, v in value.items()]
        if any("\0" in text for text in texts):
            raise ValueError("a zero byte cannot be passed to a program")
        if sum(len(text.encode(errors="replace")) for text in texts) > _MOST_BYTES:
            raise ValueError(f"over {_MOST_BYTES} bytes; put them in a file that it reads")
        return value


class ScriptFramework:
    """Runs a program in the attempt's folder; it reports through the events file."""

    name: ClassVar[str] = "script"
    description: ClassVar[str] = (
        "Any program or Python file inside the roots; it reports metrics, artifacts and an ONNX "
        "model through the file in MCP_HUB_EVENTS or `from mcp_hub import run`."
    )
    types: ClassVar[tuple[str, ...]] = (
        "classification", "regression", "clustering", "anomaly", "other",
    )  # fmt: skip
    Config: ClassVar[type[FrameworkConfig]] = ScriptConfig
    preload: ClassVar[tuple[str, ...]] = ()

    def __init__(self, place: Place = NOWHERE) -> None:
        self._place = place

    def at(self, place: Place) -> "ScriptFramework":
        """The framework at a hub of those roots, which lets programs run or does not."""
        return ScriptFramework(place)

    def missing(self) -> str | None:
        """What keeps programs from being run here, or None."""
        return None if self._place.scripts else " ".join(_SWITCHED_OFF)

    def check(self, config: FrameworkConfig, type: str) -> None:
        """Refuse a program that may not or cannot be run. Raises as `find_program`."""
        assert isinstance(config, ScriptConfig)
        find_program(config.program, self._place)

    def train(self, task: TrainingTask, run: Run) -> None:
        """Run the program to its end. Where it fails, this process ends as it did.

        Raises:
            HubError: it cannot be started; see `find_program`.
        """
        config = ScriptConfig.model_validate(dict(task.config))
        program = find_program(config.program, self._place)
        interpreter = [sys.executable] if _is_python(program) else []
        # The program gets what is sent to the whole group, and its time to end. A handler is not
        # inherited, as ignoring would be.
        signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            process = subprocess.Popen(
                [*interpreter, str(program), *config.args],
                cwd=task.folder,
                env=os.environ | config.env | _told(task),
            )
        except OSError as error:
            raise InvalidArgument(
                f"{program} cannot be run: {error.strerror}.",
                "A script begins with a line such as #!/bin/sh, and the program after #! must be "
                "installed; a binary must be of this machine's kind.",
            ) from error
        if status := process.wait():
            _end_as(status)


_SWITCHED_OFF = (
    "The framework 'script' is switched off here: it would run programs for whoever can reach this "
    "hub.",
    "Whoever runs the hub can set training.scripts to true (MCP_HUB_TRAINING__SCRIPTS=true); over "
    "stdio it is on unless that setting is false.",
)


def find_program(program: str, place: Place) -> Path:
    """The resolved path of a program inside the roots that can be run.

    Whoever may write to the roots can put any program there, so that nothing is gained by
    holding on to the file between this and its start.

    Raises:
        Denied: programs may not be run here, or this one is, or leads, outside the roots.
        NotFound: it is not there; the hint names its neighbours.
        InvalidArgument: it is no regular file, or neither Python nor executable.
    """
    if not place.scripts:
        raise Denied(*_SWITCHED_OFF)
    path, mode = Roots(place.roots).find(program)
    if not stat.S_ISREG(mode):
        raise InvalidArgument(f"{path} is not a regular file.", "Name a program.")
    readable = os.access(path, os.R_OK)
    if _is_python(path):
        if not readable:
            raise Denied(f"{path} may not be read by the hub.", "Change the file's permissions.")
    elif not os.access(path, os.X_OK):
        raise InvalidArgument(
            f"{path} is neither a Python file (.py) nor executable.",
            f"Make it executable, chmod +x {path}, with a first line such as #!/bin/sh.",
        )
    return path


def _is_python(program: Path) -> bool:
    return program.suffix == ".py"


def _told(task: TrainingTask) -> dict[str, str]:
    """What the program is told of its job, besides MCP_HUB_EVENTS, MCP_HUB_JOB_ID and …_ATTEMPT."""
    told: dict[str, Any] = {
        "NAME": task.name,
        "TYPE": task.type,
        "TARGET": task.target or "",
        "DATASET": task.dataset,
        "DATASET_FILE": task.dataset_file,
        "DATASET_FORMAT": task.dataset_format,
        "DATASET_OPTIONS": json.dumps(dict(task.dataset_options)),
    }
    return {f"MCP_HUB_JOB_{name}": str(value) for name, value in told.items()}


def _end_as(status: int) -> NoReturn:
    """End this process by the program's status or signal: the worker judges both alike."""
    sys.stdout.flush()
    sys.stderr.flush()
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status if status > 0 else 1)
