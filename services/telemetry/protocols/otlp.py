"""What the three signals of OTLP have in common.

OpenTelemetry Protocol 1.10: https://opentelemetry.io/docs/specs/otlp/. Each record is given an id
that the same request gives it again, so that a request that is sent again changes nothing.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, TypeVar

import msgspec

from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.envelope import Attributes, Record
from mcp_hub.services.telemetry.intake.accepting import Batch, Rejected
from mcp_hub.services.telemetry.protocols import messages, otlp_json

T = TypeVar("T")

Signal = Literal["traces", "metrics", "logs"]


class Origin:
    """The bytes that records without ids came in: the same ones give the same ids again."""

    def __init__(self, content: bytes) -> None:
        self._digest = hashlib.blake2b(content, digest_size=16).digest()

    def id(self, time_ns: int, position: int) -> bytes:
        return envelope.derived_id(time_ns, self._digest, position.to_bytes(4, "big"))


@dataclass(frozen=True, slots=True)
class Source:
    """What produced some records."""

    service: str
    resource: Attributes
    scope_name: str
    scope: Attributes


def parse_protobuf(data: bytes, signal: Signal) -> Any:
    """The export request of a signal. Raises ValueError where it is none."""
    return messages.parse(request_message(signal), data)


def parse_json(data: bytes | str, signal: Signal) -> Any:
    """As `parse_protobuf`, of OTLP's JSON."""
    try:
        return _json_decoder(signal).decode(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def request_message(signal: Signal) -> Any:
    """The Protocol Buffers class of a signal's request."""
    return getattr(_service(signal), f"Export{_SERVICES[signal]}ServiceRequest")


def response_message(signal: Signal) -> Any:
    """The Protocol Buffers class of the answer to it."""
    return getattr(_service(signal), f"Export{_SERVICES[signal]}ServiceResponse")


_SERVICES: dict[Signal, str] = {"traces": "Trace", "metrics": "Metrics", "logs": "Logs"}


def _service(signal: Signal) -> Any:
    name = _SERVICES[signal].lower()
    return import_module(f"opentelemetry.proto.collector.{name}.v1.{name}_service_pb2")


@lru_cache(maxsize=3)
def _json_decoder(signal: Signal) -> "msgspec.json.Decoder[Any]":
    requests: dict[Signal, type[otlp_json.Message]] = {
        "traces": otlp_json.TracesRequest,
        "metrics": otlp_json.MetricsRequest,
        "logs": otlp_json.LogsRequest,
    }
    return otlp_json.decoder(requests[signal])


def sources(
    resource_groups: Iterable[Any], scopes: str, items: str
) -> Iterator[tuple[Source, Any]]:
    """Each item of a request, with what it came from; `scopes` and `items` name the fields."""
    for group in resource_groups:
        resource = attributes_of(group.resource.attributes)
        service = resource.get("service.name")
        for scoped in getattr(group, scopes):
            scope = scoped.scope
            about = {f"otel.scope.{k}": v for k, v in attributes_of(scope.attributes).items()}
            if scope.name:
                about["otel.scope.name"] = scope.name
            if scope.version:
                about["otel.scope.version"] = scope.version
            source = Source(
                service if isinstance(service, str) and service else envelope.UNKNOWN_SERVICE,
                resource,
                scope.name,
                about,
            )
            for item in getattr(scoped, items):
                yield source, item


def collect(
    items: Iterable[tuple[Source, T]], make: Callable[[Source, T, int], Iterable[Record]]
) -> Batch:
    """What `make` makes of each item at its place; items for which it raises are told of."""
    batch = Batch()
    for place, (source, item) in enumerate(items):
        try:
            made = list(make(source, item, place))
        except (ValueError, OverflowError, RecursionError) as error:
            batch.rejected.append(Rejected(place, str(error)))
        else:
            batch.records += made
            batch.places += [place] * len(made)
    return batch


def attributes_of(pairs: Iterable[Any]) -> Attributes:
    """Attributes as a dict of JSON values."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: Any) -> Any:
    """The JSON value of an AnyValue; bytes are base64."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [value_of(one) for one in value.array_value.values]
    if which == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, which)


def id_of(field: str, value: bytes | str, length: int) -> bytes | None:
    """A trace's or span's id of `length` bytes; None where there is none.

    Raises:
        ValueError: it is of another length.
    """
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value)
        except ValueError:
            raise ValueError(f"{field} is {value[:40]!r}; it is hexadecimal") from None
    if not value:
        return None
    if len(value) != length:
        raise ValueError(f"{field} has {len(value)} bytes; it has {length}")
    return value if any(value) else None


def hex_of(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.hex()
