"""What a training framework is: an entry point of the group `mcp_hub.frameworks`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.run import Run


class FrameworkConfig(BaseModel):
    """The base of every framework's `config`: an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid")

    def check_columns(self, columns: Sequence[str], target: str | None) -> None:
        """Refuse a config that names columns which the data do not have; this one names none.

        Raises:
            InvalidArgument: says which.
        """


class Place(BaseModel):
    """What a hub lets its frameworks use, as its settings say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roots: tuple[Path, ...] = ()
    cache: Path | None = None
    """Where a framework installs, once for all jobs, what it needs besides Python's packages."""
    node: Path | None = None
    """The Node program to use; None to look for one."""
    scripts: bool = False
    """Whether programs from the roots may be run."""


NOWHERE = Place()
"""Of a hub that lets frameworks use nothing of its own."""


@dataclass(frozen=True, slots=True)
class StagedModel:
    """A registered version that a job uses: name:version, its file, and its inputs and outputs."""

    model: str
    file: Path
    signature: Signature


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """One attempt, as its process sees it. The current folder is `folder`."""

    job_id: str
    attempt: int
    name: str
    type: str
    target: str | None
    config: Mapping[str, Any]
    dataset: str
    dataset_file: Path
    dataset_format: str
    dataset_options: Mapping[str, Any]
    folder: Path
    dataset_dtypes: Mapping[str, str] = field(default_factory=dict)
    """The type of each column, as the registration of the data set recorded it."""
    checkpoint: Path | None = None
    """What the newest checkpoint of an earlier attempt holds; None where there is none."""
    threads: int = 1
    """How many the attempt's computations may take."""
    gpus: tuple[str, ...] = ()
    """The GPUs that are the attempt's own, as CUDA_VISIBLE_DEVICES names them."""
    uses: StagedModel | None = None


@runtime_checkable
class UsesGpu(Protocol):
    """A framework that trains on a GPU where its attempt has one.

    An attempt of it gets one that is free, unless its job says how many it needs.
    """

    uses_gpu: ClassVar[bool]


class Framework(Protocol):
    """Trains models of some types. Its module must be light: the server imports it to validate.

    Heavy libraries are imported by `train`, which runs alone in a process of its own.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    types: ClassVar[tuple[str, ...]]
    Config: ClassVar[type[FrameworkConfig]]
    preload: ClassVar[tuple[str, ...]]
    """Modules that a worker may import once, ahead of the attempts that need them."""

    def missing(self) -> str | None:
        """What must be installed before this framework can run here, or None."""
        ...

    def train(self, task: TrainingTask, run: Run) -> None:
        """Train, reporting through `run`; return when the model and artifacts are written.

        Raises:
            HubError: the data or the configuration cannot give a model; told to the user as is.
        """
        ...


@runtime_checkable
class Situated(Protocol):
    """What a framework has besides if it depends on the hub's settings."""

    def at(self, place: Place) -> Framework:
        """The framework as it is at that hub."""
        ...


@runtime_checkable
class Checking(Protocol):
    """What a framework has besides if a sound config may still be one that cannot work here."""

    def check(self, config: FrameworkConfig, type: str) -> None:
        """Refuse a job of that type before it is queued. It may read files; it runs in a thread.

        Raises:
            HubError: the job cannot work, or is not allowed.
        """
        ...
