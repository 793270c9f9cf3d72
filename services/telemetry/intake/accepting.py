"""From what a sender says to a valid record, or the reason why not."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from itertools import count
from json import JSONDecoder
from typing import Any, TypeVar

import msgspec

from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.envelope import Attributes, Kind, Record
from mcp_hub.services.telemetry.intake.complaints import complaint

T = TypeVar("T")

MAX_RECORDS = 5_000
"""Records of one request of JSON."""
_BRACES_EACH = 4
_BLANKS = frozenset(" \t\r\n")
_MAX_INT = 2**63 - 1
_NANOSECONDS = 10**17
"""A larger number of time is one of nanoseconds."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record of a batch that was refused, by its place in the batch, and why."""

    index: int
    message: str


@dataclass(slots=True)
class Batch:
    """What was understood of what a sender sent: `places` says where each record stood in it."""

    records: list[Record] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


class Said(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A record as JSON says it: the envelope, with times and severities in any usual form."""

    name: str
    kind: Kind | None = None
    id: str | None = None
    time: int | float | str | None = None
    service: str | None = None
    severity: str | int | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_id: str | None = None
    duration_ns: int | None = None
    duration_ms: float | None = None
    value: float | None = None
    unit: str | None = None
    body: str | None = None
    attributes: dict[str, Any] | None = None
    resource: dict[str, Any] | None = None


_FIELDS = Said.__struct_fields__
_VALUES = {"kind": envelope.KINDS}
_said = msgspec.json.Decoder(Said)
_all_said = msgspec.json.Decoder(list[Said])


def from_json(text: bytes, default_kind: Kind, most: int = MAX_RECORDS) -> Batch:
    """The records of a JSON array, or of one object; what is wrong is told of by its index.

    Raises:
        ValueError: it is no JSON, or other JSON.
        LimitExceeded: there are more than `most`.
    """
    try:
        if text.lstrip()[:1] == b"{":
            return gather([text], lambda one: record_of(_said.decode(one), default_kind))
        # What may be far too many is looked at one by one, so that it takes no memory.
        if text.count(b"{") <= _BRACES_EACH * most:
            with suppress(msgspec.ValidationError):
                said = _all_said.decode(text)
                if len(said) > most:
                    raise too_many(most)
                return gather(said, lambda one: record_of(one, default_kind))
        return _one_by_one(_elements(text.decode(), most), default_kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def from_lines(text: bytes, default_kind: Kind, most: int = MAX_RECORDS) -> Batch:
    """The records of JSON Lines. An index is that of a line, blank ones not counted.

    Raises:
        LimitExceeded: there are more than `most`.
    """
    if text.count(b"\n") < most:
        with suppress(ValueError, RecursionError):
            said = _said.decode_lines(text)
            return gather(said, lambda one: record_of(one, default_kind))
    return _one_by_one(
        _bounded((line for line in BytesIO(text) if line.strip()), most), default_kind
    )


def too_many(most: int) -> LimitExceeded:
    """The error of a request of more than `most` records."""
    return LimitExceeded(
        f"There are more than {most:,} records in one request.", "Send them in smaller batches."
    )


def _bounded(items: Iterable[T], most: int) -> Iterator[T]:
    for number, item in enumerate(items):
        if number == most:
            raise too_many(most)
        yield item


def _elements(text: str, most: int) -> Iterator[str]:
    """The texts of the elements of a JSON array, one after another."""
    at = _skip_blank(text, 0)
    if text[at : at + 1] != "[":
        raise ValueError("it is neither a JSON object nor an array")
    at = _skip_blank(text, at + 1)
    if text[at : at + 1] == "]":
        return
    scan = JSONDecoder().raw_decode
    for number in count():
        if number == most:
            raise too_many(most)
        _, end = scan(text, at)
        yield text[at:end]
        at = _skip_blank(text, end)
        if text[at : at + 1] != ",":
            break
        at = _skip_blank(text, at + 1)
    if text[at : at + 1] != "]" or _skip_blank(text, at + 1) != len(text):
        raise ValueError(f"its array is not JSON from character {at} on")


def _skip_blank(text: str, at: int) -> int:
    while text[at : at + 1] in _BLANKS:
        at += 1
    return at


def from_objects(objects: Iterable[Any], default_kind: Kind) -> Batch:
    """The records of parsed JSON, each an object. As `from_json`."""
    return gather(objects, lambda one: record_of(msgspec.convert(one, Said), default_kind))


def gather(items: Iterable[Any], make: Callable[[Any], Record]) -> Batch:
    """`make` of each item; the items for which it raises a ValueError are told of."""
    batch = Batch()
    for index, item in enumerate(items):
        try:
            batch.records.append(make(item))
            batch.places.append(index)
        except ValueError as error:
            batch.rejected.append(Rejected(index, complaint_of(error)))
        except RecursionError:
            batch.rejected.append(Rejected(index, "it is nested too deeply"))
    return batch


def _one_by_one(texts: Iterable[bytes | str], default_kind: Kind) -> Batch:
    return gather(texts, lambda text: record_of(_said.decode(text), default_kind))


def make_record(
    kind: Kind,
    name: str,
    time_ns: int,
    *,
    id: bytes | None = None,
    service: str | None = None,
    severity: int | None = None,
    trace_id: bytes | None = None,
    span_id: bytes | None = None,
    parent_id: bytes | None = None,
    duration_ns: int | None = None,
    value: float | None = None,
    unit: str | None = None,
    body: str | None = None,
    attributes: Attributes | None = None,
    resource: Attributes | None = None,
    may_be_repeated: bool = False,
) -> Record:
    """A record within the limits; whichever way it came, it passes through here.

    Raises:
        ValueError: it is none; the message says what is wrong and what would be right.
    """
    return _record(
        kind, name, time_ns, id, service, severity, trace_id, span_id, parent_id, duration_ns,
        value, unit, body, attributes, resource, may_be_repeated,
    )  # fmt: skip


def _record(
    kind: Kind,
    name: str,
    time_ns: int,
    id: bytes | None,
    service: str | None,
    severity: int | None,
    trace_id: bytes | None,
    span_id: bytes | None,
    parent_id: bytes | None,
    duration_ns: int | None,
    value: float | None,
    unit: str | None,
    body: str | None,
    attributes: Attributes | None,
    resource: Attributes | None,
    may_be_repeated: bool,
) -> Record:
    """`make_record` by position, which takes half the time."""
    if not 0 < len(name) <= envelope.MAX_NAME or "\0" in name:
        name = _name(name)
    if service is None or service == "":
        service = envelope.UNKNOWN_SERVICE
    elif len(service) > envelope.MAX_SERVICE or "\0" in service:
        service = _text("service", service, envelope.MAX_SERVICE)
    if not envelope.OLDEST <= time_ns <= time.time_ns() + envelope.AHEAD_NS:
        raise ValueError(_wrong_time(time_ns))
    if value is not None and not math.isfinite(value):
        raise ValueError(f"value is {value}; it must be a finite number")
    if duration_ns is not None and not 0 <= duration_ns <= _MAX_INT:
        raise ValueError(f"duration_ns is {duration_ns}; it is from 0 to 2^63 - 1")
    if kind == "metric" and value is None:
        raise ValueError("a metric needs a value")
    if kind == "span" and duration_ns is None:
        raise ValueError("a span needs duration_ns or duration_ms")
    if not attributes:
        attributes = {}
    elif len(attributes) > envelope.MAX_ATTRIBUTES:
        raise ValueError(
            f"{len(attributes):,} attributes; at most {envelope.MAX_ATTRIBUTES:,} are kept"
        )
    if body is not None and (len(body) > envelope.MAX_BODY or "\0" in body):
        body, attributes = _bounded_body(body, attributes)
    return Record(
        id or envelope.new_id(time_ns), kind, name, time_ns, service, severity, trace_id, span_id,
        parent_id, duration_ns, value, _text("unit", unit, envelope.MAX_UNIT) if unit else None,
        body, attributes, resource or {}, id is None, may_be_repeated,
    )  # fmt: skip


def parse_time(value: float | str) -> int:
    """Nanoseconds since the epoch of an ISO 8601 text (UTC if it has no zone) or of a number.

    A number is of seconds, milliseconds, microseconds or nanoseconds, whichever brings it near
    our time.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        if value.strip().lstrip("-").replace(".", "", 1).isdigit():
            return parse_time(float(value) if "." in value else int(value))
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                f"time is {value!r}; it is ISO 8601 (2026-01-31T12:00:00Z) or a number since 1970"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        whole = int(moment.replace(microsecond=0).timestamp())
        return whole * 10**9 + moment.microsecond * 1000
    size = abs(value)
    factor = 10**9 if size < 1e11 else 10**6 if size < 1e14 else 10**3 if size < 1e17 else 1
    return int(value * factor)


def complaint_of(error: Exception) -> str:
    """What is told of a record that could not be taken because of `error`."""
    return complaint(error, _FIELDS, _VALUES)


def said_in(text: bytes) -> Said:
    """What the JSON object `text` says. Raises ValueError where it is no record's."""
    return _said.decode(text)


def record_of(said: Said, default_kind: Kind) -> Record:
    """The record that is meant. Raises ValueError as `make_record`."""
    kind = said.kind or ("span" if said.span_id and said.duration_ns is not None else default_kind)
    id = envelope.named_id(said.id) if said.id else None
    told = envelope.time_of(id) if id else None
    if said.time.__class__ is int and said.time > _NANOSECONDS:
        time_ns: int = said.time
    else:
        time_ns = parse_time(said.time) if said.time is not None else told or time.time_ns()
    duration = said.duration_ns
    if said.duration_ms is not None:
        duration = _duration(said.duration_ms, duration)
    return _record(
        kind,
        said.name,
        time_ns,
        id,
        said.service,
        envelope.severity_of(said.severity) if said.severity is not None else None,
        _hex("trace_id", said.trace_id, 16) if said.trace_id else None,
        _hex("span_id", said.span_id, 8) if said.span_id else None,
        _hex("parent_id", said.parent_id, 8) if said.parent_id else None,
        duration,
        said.value,
        said.unit,
        said.body,
        said.attributes,
        said.resource,
        id is not None and said.time is None and told is None,
    )


def _duration(ms: float, ns: int | None) -> int:
    """Of both, the finer one; the other may have been cut to whole milliseconds."""
    if not math.isfinite(ms):
        raise ValueError(f"duration_ms is {ms:g}, which is no length of time")
    if ns is None:
        return round(ms * 1_000_000)
    if not abs(ns - ms * 1_000_000) < 1_000_000:
        raise ValueError(
            f"duration_ns is {ns} and duration_ms is {ms:g}, which is not the same: give one"
        )
    return ns


def _hex(field: str, text: str, length: int) -> bytes | None:
    try:
        value = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        value = b""
    if len(value) != length:
        raise ValueError(f"{field} is {text[:40]!r}; it has {length * 2} hexadecimal digits")
    return value if any(value) else None


def _text(field: str, text: str, most: int) -> str:
    if len(text) > most:
        raise ValueError(f"{field} has {len(text):,} characters; it has at most {most}")
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def _name(name: str) -> str:
    if not name:
        raise ValueError("name is empty")
    return _text("name", name, envelope.MAX_NAME)


def _wrong_time(time_ns: int) -> str:
    if time_ns < envelope.OLDEST:
        return f"time is {_shown(time_ns)}, before 2000: is it in another unit?"
    return f"time is {_shown(time_ns)}, over a day ahead of the hub's clock"


def _shown(time_ns: int) -> str:
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{time_ns} ns"


def _bounded_body(body: str, attributes: Attributes) -> tuple[str, Attributes]:
    if "\0" in body:
        body = body.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(body) > envelope.MAX_BODY:
        attributes = attributes | {"body.length": len(body)}
        body = body[: envelope.MAX_BODY]
    return body, attributes
