"""The reports of a job's process, parsed from the lines of its events file."""

import json
import math
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from mcp_hub.services.data.views import ColumnSchema
from mcp_hub.services.registry.views import Signature

MAX_LINE_BYTES = 1_000_000
READ_BYTES = 1 << 20
MAX_KEYS = 1_000
"""Different metrics, params, tags and artifacts that an attempt may report, of each kind."""
_MAX_TOLD = 100
"""Reports left out that the log names one by one."""


def _without_nul(text: str) -> str:
    # No database takes it in a text.
    if "\0" in text:
        raise ValueError("a text has a NUL character")
    return text


def _storable(value: Any) -> Any:
    text = json.dumps(value, allow_nan=False)
    if "\\u0000" in text:
        raise ValueError("a text has a NUL character")
    return value


_Text = Annotated[str, AfterValidator(_without_nul)]
_Key = Annotated[_Text, Field(min_length=1, max_length=128)]
_Step = Annotated[int, Field(ge=-(2**53), le=2**53)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class MetricEvent(BaseModel):
    type: Literal["metric"]
    key: _Key
    value: float
    step: _Step | None = None


class ProgressEvent(BaseModel):
    type: Literal["progress"]
    done: _Finite
    total: _Finite | None = None


class ParamEvent(BaseModel):
    type: Literal["param"]
    key: _Key
    value: Annotated[Any, AfterValidator(_storable)]


class TagEvent(BaseModel):
    type: Literal["tag"]
    key: _Key
    value: _Text


class LogEvent(BaseModel):
    type: Literal["log"]
    text: str


class ArtifactEvent(BaseModel):
    type: Literal["artifact"]
    path: _Text
    name: _Key


class ModelEvent(BaseModel):
    type: Literal["model"]
    path: _Text
    flavor: Literal["onnx"] = "onnx"
    signature: Signature | None = None


class CheckpointEvent(BaseModel):
    """A file of a name of its own, which the worker takes away."""

    type: Literal["checkpoint"]
    path: _Text
    step: _Step | None = None


class EvaluationEvent(BaseModel):
    type: Literal["evaluation"]
    rows: int
    metrics: dict[str, float]
    report: dict[str, Any]


class DatasetEvent(BaseModel):
    type: Literal["dataset"]
    path: str
    rows: int
    kept: list[str]
    added: list[ColumnSchema]


class ErrorEvent(BaseModel):
    type: Literal["error"]
    code: _Text
    message: _Text
    hint: _Text | None = None


Event = (
    MetricEvent | ProgressEvent | ParamEvent | TagEvent | LogEvent | ArtifactEvent | ModelEvent
    | CheckpointEvent | EvaluationEvent | DatasetEvent | ErrorEvent
)  # fmt: skip
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


@dataclass(slots=True)
class Batch:
    """What some lines reported, in order; of the progress the newest."""

    metrics: list[MetricEvent] = field(default_factory=list)
    progress: ProgressEvent | None = None
    checkpoints: list[CheckpointEvent] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What an attempt has reported so far and is needed when it ends."""

    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    model: ModelEvent | None = None
    evaluation: EvaluationEvent | None = None
    dataset: DatasetEvent | None = None
    error: ErrorEvent | None = None
    not_finite: dict[str, int | None] = field(default_factory=dict)
    """The metrics that were no finite number, and the step at which each first was not."""
    broken: int = 0
    """Reports that were left out for what they are."""
    _next_step: dict[str, int] = field(default_factory=dict)

    def take(self, lines: Iterable[bytes]) -> Batch:
        """Add whole lines; what must be written down at once.

        A line that is no event, a metric that is no finite number, and what is over `MAX_KEYS` is
        left out and named in the log: a report must not bring a training down.
        """
        batch = Batch()
        for line in lines:
            try:
                event = _ADAPTER.validate_json(line)
            except ValidationError as error:
                reason = error.errors(include_url=False, include_input=False)[0]
                shown = line[:80].decode(errors="replace")
                self._leave_out(f"Ignored a broken report ({reason['msg']}): {shown}", batch)
                continue
            self._add(event, batch)
        return batch

    def _add(self, event: Event, batch: Batch) -> None:
        match event:
            case MetricEvent() if not math.isfinite(event.value):
                if len(self.not_finite) < MAX_KEYS and event.key not in self.not_finite:
                    self.not_finite[event.key] = event.step
                    text = f"Ignored metric {event.key}: {event.value} is not a finite number."
                    batch.log.append(text)
            case MetricEvent() if _is_full(self.metrics, event.key):
                self._leave_out(f"Ignored metric {event.key}: over {MAX_KEYS} metrics.", batch)
            case ParamEvent() if _is_full(self.params, event.key):
                self._leave_out(f"Ignored param {event.key}: over {MAX_KEYS} params.", batch)
            case TagEvent() if _is_full(self.tags, event.key):
                self._leave_out(f"Ignored tag {event.key}: over {MAX_KEYS} tags.", batch)
            case ArtifactEvent() if _is_full(self.artifacts, event.name):
                text = f"Ignored artifact {event.name}: over {MAX_KEYS} artifacts."
                self._leave_out(text, batch)
            case MetricEvent():
                step = event.step if event.step is not None else self._next_step.get(event.key, 0)
                self._next_step[event.key] = step + 1
                self.metrics[event.key] = event.value
                batch.metrics.append(event.model_copy(update={"step": step}))
            case ProgressEvent():
                batch.progress = event
            case ParamEvent():
                self.params[event.key] = event.value
            case TagEvent():
                self.tags[event.key] = event.value
            case LogEvent():
                batch.log.append(event.text)
            case ArtifactEvent():
                self.artifacts[event.name] = event.path
            case ModelEvent():
                self.model = event
            case CheckpointEvent():
                batch.checkpoints.append(event)
            case EvaluationEvent():
                self.evaluation = event
            case DatasetEvent():
                self.dataset = event
            case ErrorEvent():
                self.error = event

    def _leave_out(self, text: str, batch: Batch) -> None:
        self.broken += 1
        if self.broken <= _MAX_TOLD:
            batch.log.append(text)
        if self.broken == _MAX_TOLD:
            batch.log.append("Further reports that are ignored are not shown.")


def _is_full(known: Mapping[str, Any], key: str) -> bool:
    return len(known) >= MAX_KEYS and key not in known


class LineTail:
    """Splits a growing file's bytes into whole lines; the rest waits for more."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, *, final: bool = False) -> list[bytes]:
        """The lines completed by `data`, without their ends; with `final`, the rest as well.

        A line over `MAX_LINE_BYTES` is cut there and goes on as the next line.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]
        if final and self._rest:
            lines.append(self._rest)
            self._rest = b""
        return [line.removesuffix(b"\r") for line in lines if line.strip()]


class FileTail:
    """Reads what was added to a file since the last time; `size` is what it had then."""

    def __init__(self, path: Path) -> None:
        self.lines = LineTail()
        self.size = 0
        self._path = path
        self._offset = 0

    def read(self) -> bytes:
        """The next `READ_BYTES` at most; nothing if it is no file any more."""
        try:
            # The attempt may have put a link or a pipe in its place, which must not be followed
            # or waited for.
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return b""
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return b""
        with os.fdopen(file, "rb") as stream:
            self.size = stream.seek(0, os.SEEK_END)
            stream.seek(self._offset)
            data = stream.read(READ_BYTES)
        self._offset += len(data)
        return data
