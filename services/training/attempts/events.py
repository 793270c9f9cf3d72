"""The reports of a job's process, parsed from the lines of its events file."""

import errno
import json
import math
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
)

from mcp_hub.adapters.database.nul import without_nul
from mcp_hub.adapters.errors import HubError, InvalidArgument, LimitExceeded
from mcp_hub.services.data.views import ColumnSchema
from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.views import Cause

MAX_LINE_BYTES = 1_000_000
READ_BYTES = 1 << 20
MAX_KEYS = 1_000
"""Different metrics, params, tags and artifacts that an attempt may report, of each kind."""
_SHOWN = 80
"""Characters of a line that is no event."""
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENOTDIR, errno.EACCES)
"""What opening says where an attempt put something else in a file's place."""


def _without_nul(text: str) -> str:
    # No database takes it in a text.
    if "\0" in text:
        raise ValueError("a text has a NUL character")
    return text


def _storable(value: Any) -> Any:
    text = json.dumps(value, allow_nan=False)
    if without_nul(text) != text:
        raise ValueError("a text has a NUL character")
    return value


def _nan_for_null(value: Any) -> Any:
    # JSON.stringify writes NaN and Infinity so.
    return math.nan if value is None else value


_Text = Annotated[str, AfterValidator(_without_nul)]
_Key = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_without_nul)]
_Step = Annotated[int, Field(ge=-(2**53), le=2**53)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class MetricEvent(BaseModel):
    type: Literal["metric"]
    key: _Key
    value: Annotated[float, BeforeValidator(_nan_for_null)]
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
    metrics: dict[_Key, _Finite] = {}


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


@dataclass(frozen=True, slots=True)
class Fault:
    """What an attempt wrote that ends it."""

    error: HubError
    cause: Cause


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
    fault: Fault | None = None
    """The first report that is wrong: nothing after it is taken."""
    _line: int = 0
    _next_step: dict[str, int] = field(default_factory=dict)

    def take(self, lines: Iterable[bytes]) -> Batch:
        """Add the next whole lines; what must be written down at once.

        A line that is no event, a metric that is no finite number, and what is over `MAX_KEYS` is
        the `fault`. Blank lines say nothing.
        """
        batch = Batch()
        for line in lines:
            if self.fault is not None:
                break
            self._line += 1
            if not line.strip():
                continue
            try:
                event = _ADAPTER.validate_json(line)
            except ValidationError as error:
                self.fault = _no_event(self._line, line, error)
            else:
                self.fault = self._fault_of(event)
                if self.fault is None:
                    self._add(event, batch)
        return batch

    def _fault_of(self, event: Event) -> Fault | None:
        match event:
            case MetricEvent() if not math.isfinite(event.value):
                return _not_finite(event)
            case MetricEvent() if _is_full(self.metrics, event.key):
                return _too_many("metrics")
            case ModelEvent() if len(self.metrics.keys() | event.metrics.keys()) > MAX_KEYS:
                return _too_many("metrics")
            case ParamEvent() if _is_full(self.params, event.key):
                return _too_many("params")
            case TagEvent() if _is_full(self.tags, event.key):
                return _too_many("tags")
            case ArtifactEvent() if _is_full(self.artifacts, event.name):
                return _too_many("artifacts")
            case _:
                return None

    def _add(self, event: Event, batch: Batch) -> None:
        match event:
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


LOST_EVENTS = Fault(
    InvalidArgument(
        "The events file was removed, shortened, or replaced by what is no file.",
        "Append whole lines to the file that MCP_HUB_EVENTS names, and do nothing else to it.",
    ),
    "broken_report",
)


def is_event(line: bytes) -> bool:
    """Whether the line is a whole event."""
    try:
        _ADAPTER.validate_json(line)
    except ValidationError:
        return False
    return True


def _is_full(known: Mapping[str, Any], key: str) -> bool:
    return len(known) >= MAX_KEYS and key not in known


def _no_event(number: int, line: bytes, error: ValidationError) -> Fault:
    shown = line[:_SHOWN].decode(errors="replace").strip()
    return Fault(
        InvalidArgument(
            f"Line {number} of the events file is no event ({_reason(line, error)}): {shown}",
            "Each line is one whole JSON object that names its type, such as "
            '{"type": "metric", "key": "loss", "value": 0.3, "step": 4}.',
        ),
        "broken_report",
    )


def _reason(line: bytes, error: ValidationError) -> str:
    if len(line) >= MAX_LINE_BYTES:
        return f"over {MAX_LINE_BYTES:,} bytes long"
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "union_tag_not_found":
        return "it names no type"
    where = ".".join(str(part) for part in first["loc"])
    complaint = (
        first["msg"].removeprefix("Value error, ").replace(" at line 1 column", " at column")
    )
    return f"{where}: {complaint}" if where else complaint


def _not_finite(event: MetricEvent) -> Fault:
    at = f" at step {event.step}" if event.step is not None else ""
    return Fault(
        InvalidArgument(
            f"Metric {event.key} is {event.value}{at}; a metric is a finite number.",
            "If the training diverged, lower the learning rate, scale the features or clip "
            "gradients; look for missing values in the data.",
        ),
        "nan_loss",
    )


def _too_many(what: str) -> Fault:
    return Fault(
        LimitExceeded(
            f"It reported over {MAX_KEYS:,} different {what}.",
            "Report fewer names: what repeats is a metric with steps, and a table is an artifact.",
        ),
        "too_much_output",
    )


class LineTail:
    """Splits a growing file's bytes into whole lines; the rest waits for more."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by `data`, without their ends.

        A line over `MAX_LINE_BYTES` is cut there and goes on as the next line.
        """
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = [
            line[at : at + MAX_LINE_BYTES]
            for line in whole
            for at in range(0, max(1, len(line)), MAX_LINE_BYTES)
        ]
        while len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]
        return [line.removesuffix(b"\r") for line in lines]

    def end(self) -> bytes:
        """What has no end of line, now that nothing follows it."""
        rest, self._rest = self._rest, b""
        return rest.removesuffix(b"\r")


class FileTail:
    """Reads what was added to a file since the last time; `size` is what it had then."""

    def __init__(self, path: Path) -> None:
        self.lines = LineTail()
        self.size = 0
        self.is_lost = False
        """Whether the file was removed, replaced by what is none, or shortened."""
        self._path = path
        self._offset = 0

    def read(self) -> bytes:
        """The next `READ_BYTES` at most; nothing if it is no file any more."""
        try:
            # The attempt may have put a link or a pipe in its place, which must not be followed
            # or waited for.
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            self.is_lost |= self._offset > 0
            return b""
        except OSError as error:
            # What else may be wrong, such as too many open files, passes.
            self.is_lost |= error.errno in _NO_FILE
            return b""
        if not stat.S_ISREG(os.fstat(file).st_mode):
            self.is_lost = True
            os.close(file)
            return b""
        with os.fdopen(file, "rb") as stream:
            self.size = stream.seek(0, os.SEEK_END)
            self.is_lost |= self.size < self._offset
            stream.seek(self._offset)
            data = stream.read(READ_BYTES)
        self._offset += len(data)
        return data
