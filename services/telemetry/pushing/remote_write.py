"""Prometheus's remote-write 1.0: metrics as a snappy-compressed protobuf `WriteRequest`."""

import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

HEADERS = {
    "content-encoding": "snappy",
    "content-type": "application/x-protobuf",
    "x-prometheus-remote-write-version": "0.1.0",
}


def encode(metrics: "Iterable[Metric]", labels: Mapping[str, str], time_ms: int) -> bytes:
    """The body of a request that says what every sample is at a time, under further `labels`.

    `message WriteRequest { repeated TimeSeries timeseries = 1; }`,
    `message TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; }`,
    `message Label { string name = 1; string value = 2; }`,
    `message Sample { double value = 1; int64 timestamp = 2; }`; labels are sorted by name.
    """
    import cramjam

    series = []
    for metric in metrics:
        for sample in metric.samples:
            if sample.name.endswith("_created"):
                continue
            named = {**sample.labels, **labels, "__name__": sample.name}
            parts = [_label(name, named[name]) for name in sorted(named)]
            value = b"\x09" + struct.pack("<d", sample.value) + b"\x10" + _varint(time_ms)
            parts.append(_message(2, value))
            series.append(_message(1, b"".join(parts)))
    return bytes(cramjam.snappy.compress_raw(b"".join(series)))


def _label(name: str, value: str) -> bytes:
    return _message(1, _message(1, name.encode()) + _message(2, value.encode()))


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
