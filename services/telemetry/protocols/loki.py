"""What Loki's clients push: a line is a log record named `log`, its labels are attributes.

https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs. The service is told by
the labels that Loki itself looks at. A level and a trace's id are taken from the structured
metadata or the labels.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from mcp_hub.services.telemetry.envelope import Attributes, Record
from mcp_hub.services.telemetry.intake.accepting import Batch, Rejected, make_record
from mcp_hub.services.telemetry.protocols import messages
from mcp_hub.services.telemetry.protocols.otlp import Origin, id_of
from mcp_hub.services.telemetry.protocols.otlp_logs import severity_of_text

_SERVICE = (
    "service_name", "service", "app", "application", "name", "app_kubernetes_io_name", "container",
    "container_name", "component", "workload", "job",
)  # fmt: skip
_LEVEL = ("detected_level", "level", "severity", "lvl")
_TRACE = ("trace_id", "traceID", "traceId")
_SPAN = ("span_id", "spanID", "spanId")

_LABEL = re.compile(r'\s*([a-zA-Z_][\w.:]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|`([^`]*)`)\s*(,|$)')
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_Entry = tuple[int, str, Attributes]


class _Stream(msgspec.Struct):
    stream: dict[str, str] = {}
    values: list[list[Any]] = []


class _Push(msgspec.Struct):
    streams: list[_Stream]


_json = msgspec.json.Decoder(_Push)


@lru_cache(maxsize=1)
def push_message() -> Any:
    """logproto.PushRequest."""
    return messages.messages(
        "logproto",
        {
            "Timestamp": "int64 seconds = 1; int32 nanos = 2",
            "LabelPairAdapter": "string name = 1; string value = 2",
            "EntryAdapter": "Timestamp timestamp = 1; string line = 2;"
            "repeated LabelPairAdapter structuredMetadata = 3",
            "StreamAdapter": "string labels = 1; repeated EntryAdapter entries = 2",
            "PushRequest": "repeated StreamAdapter streams = 1",
        },
    )["PushRequest"]


def batch_of_protobuf(data: bytes, origin: Origin) -> Batch:
    """The records of a push as a Protocol Buffers message. Raises ValueError if it is none."""
    request = messages.parse(push_message(), data)
    batch = Batch()
    for stream in request.streams:
        labels = parse_labels(stream.labels)
        entries = (
            (
                entry.timestamp.seconds * 10**9 + entry.timestamp.nanos,
                entry.line,
                {pair.name: pair.value for pair in entry.structuredMetadata},
            )
            for entry in stream.entries
        )
        _add(batch, origin, labels, entries)
    return batch


def batch_of_json(data: bytes, origin: Origin) -> Batch:
    """The records of a push as JSON. Raises ValueError if it is none."""
    try:
        request = _json.decode(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    batch = Batch()
    for stream in request.streams:
        _add(batch, origin, stream.stream, stream.values)
    return batch


def parse_labels(text: str) -> dict[str, str]:
    """The labels of `{app="shop", env="test"}`.

    Raises:
        ValueError: it is not written so.
    """
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise ValueError(f'labels are {text[:100]!r}; they are written {{app="shop", env="test"}}')
    inner = inner[1:-1].strip()
    labels = {}
    at = 0
    while at < len(inner):
        found = _LABEL.match(inner, at)
        if found is None:
            raise ValueError(f"labels are not understood from {inner[at : at + 100]!r} on")
        quoted = found[2]
        labels[found[1]] = found[3] if quoted is None else _ESCAPE.sub(_unescaped, quoted)
        at = found.end()
    return labels


def _unescaped(found: re.Match[str]) -> str:
    for group, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
        if found[group]:
            code = int(found[group], base)
            return chr(code) if code < 0x110000 else "\N{REPLACEMENT CHARACTER}"
    return _ESCAPED.get(found[5], found[5])


def _add(batch: Batch, origin: Origin, labels: dict[str, str], entries: Iterable[Any]) -> None:
    service = _first(_SERVICE, labels)
    first = len(batch.records) + len(batch.rejected)
    for place, entry in enumerate(entries, first):
        try:
            record = _record(origin, labels, service, entry, place)
        except (ValueError, TypeError) as error:
            batch.rejected.append(Rejected(place, str(error)))
        else:
            batch.records.append(record)
            batch.places.append(place)


def _record(
    origin: Origin, labels: dict[str, str], service: str | None, entry: Any, place: int
) -> Record:
    time_ns, line, metadata = _entry(entry)
    attributes: Attributes = labels | metadata
    level = _first(_LEVEL, metadata) or _first(_LEVEL, labels)
    return make_record(
        "log",
        "log",
        time_ns,
        id=origin.id(time_ns, place),
        service=service or _first(_SERVICE[:2], metadata),
        severity=severity_of_text(level) if level else None,
        trace_id=_told_id(_TRACE, metadata, 16),
        span_id=_told_id(_SPAN, metadata, 8),
        body=line,
        attributes=attributes,
    )


def _entry(entry: Any) -> _Entry:
    """The time, line and structured metadata of an entry."""
    if not 2 <= len(entry) <= 3:
        raise ValueError(f"an entry is [time, line] or [time, line, metadata], not {len(entry)}")
    told, line, metadata = entry if len(entry) == 3 else (*entry, {})
    if not isinstance(line, str):
        raise ValueError("a line is text")
    if not isinstance(metadata, dict):
        raise ValueError("structured metadata is an object")
    try:
        return int(told), line, metadata
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"time is {str(told)[:40]!r}; it is nanoseconds since 1970") from None


def _first(names: Iterable[str], values: Attributes) -> str | None:
    found: Iterator[Any] = (values[name] for name in names if values.get(name))
    return next((value for value in found if isinstance(value, str)), None)


def _told_id(names: Iterable[str], metadata: Attributes, length: int) -> bytes | None:
    """An id that is one; what else is called so stays an attribute."""
    text = _first(names, metadata)
    try:
        return id_of("id", text, length) if text else None
    except ValueError:
        return None
