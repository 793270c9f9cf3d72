"""The reports of a job's process, parsed from the lines of its events file."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from mcp_hub.services.registry.views import Signature

MAX_LINE_BYTES = 1_000_000
READ_BYTES = 1 << 20
_Key = Annotated[str, Field(min_length=1, max_length=128)]
_Step = Annotated[int, Field(ge=-(2**53), le=2**53)]


class MetricEvent(BaseModel):
    type: Literal["metric"]
    key: _Key
    value: float
    step: _Step | None = None


class ProgressEvent(BaseModel):
    type: Literal["progress"]
    done: float
    total: float | None = None


class ParamEvent(BaseModel):
    type: Literal["param"]
    key: _Key
    value: Any


class TagEvent(BaseModel):
    type: Literal["tag"]
    key: _Key
    value: str


class LogEvent(BaseModel):
    type: Literal["log"]
    text: str


class ArtifactEvent(BaseModel):
    type: Literal["artifact"]
    path: str
    name: _Key


class ModelEvent(BaseModel):
    type: Literal["model"]
    path: str
    flavor: Literal["onnx"] = "onnx"
    signature: Signature | None = None


class CheckpointEvent(BaseModel):
    type: Literal["checkpoint"]
    path: str
    step: _Step | None = None


class ErrorEvent(BaseModel):
    type: Literal["error"]
    code: str
    message: str
    hint: str | None = None


Event = (
    MetricEvent | ProgressEvent | ParamEvent | TagEvent | LogEvent | ArtifactEvent | ModelEvent
    | CheckpointEvent | ErrorEvent
)  # fmt: skip
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


@dataclass(slots=True)
class Batch:
    """What some lines reported: metrics in order, the newest of the rest, lines for the log."""

    metrics: list[MetricEvent] = field(default_factory=list)
    progress: ProgressEvent | None = None
    checkpoint: CheckpointEvent | None = None
    log: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What an attempt has reported so far and is needed when it ends."""

    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    model: ModelEvent | None = None
    error: ErrorEvent | None = None
    _next_step: dict[str, int] = field(default_factory=dict)

    def take(self, lines: Iterable[bytes]) -> Batch:
        """Add whole lines; what must be written down at once.

        A line that is no event, and a metric that is no finite number, is left out and named in
        the log: a report must not bring a training down.
        """
        batch = Batch()
        for line in lines:
            try:
                event = _ADAPTER.validate_json(line)
            except ValidationError as error:
                reason = error.errors(include_url=False, include_input=False)[0]
                shown = line[:80].decode(errors="replace")
                batch.log.append(f"Ignored a broken report ({reason['msg']}): {shown}")
                continue
            self._add(event, batch)
        return batch

    def _add(self, event: Event, batch: Batch) -> None:
        match event:
            case MetricEvent() if not math.isfinite(event.value):
                batch.log.append(f"Ignored metric {event.key}: {event.value} is not a number.")
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
                batch.checkpoint = event
            case ErrorEvent():
                self.error = event


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
        try:
            with self._path.open("rb") as file:
                self.size = file.seek(0, os.SEEK_END)
                file.seek(self._offset)
                data = file.read(READ_BYTES)
        except FileNotFoundError:
            return b""
        self._offset += len(data)
        return data
