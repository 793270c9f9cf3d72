import struct

from mcp_hub.services.telemetry.protocols import remote_write
from mcp_hub.services.telemetry.protocols.otlp import Origin

TIME_MS = 1_790_000_000_000
ORIGIN = Origin(b"")
(STALE,) = struct.unpack(">d", bytes.fromhex("7ff0000000000002"))


def test_samples_and_their_labels() -> None:
    request = remote_write.write_message()()
    request.metadata.add(metric_family_name="up", unit="1")
    series = request.timeseries.add()
    for name, value in (("__name__", "up"), ("job", "node"), ("instance", "a:1")):
        series.labels.add(name=name, value=value)
    for value in (1.0, STALE, float("inf"), 0.0):
        series.samples.add(value=value, timestamp=TIME_MS)
    write = remote_write.batch_of(request.SerializeToString(), ORIGIN)
    assert [record.value for record in write.batch.records] == [1.0, 0.0]
    assert write.batch.places == [0, 3]
    assert (write.batch.rejected, write.written.samples) == ([], 4)
    record = write.batch.records[0]
    assert (record.name, record.service, record.unit) == ("up", "node", "1")
    assert (record.time, record.attributes) == (TIME_MS * 10**6, {"instance": "a:1"})


def test_a_series_without_a_name_is_told_of() -> None:
    request = remote_write.write_message()()
    request.timeseries.add().samples.add(value=1, timestamp=TIME_MS)
    batch = remote_write.batch_of(request.SerializeToString(), ORIGIN).batch
    assert "__name__" in batch.rejected[0].message


def test_a_native_histogram() -> None:
    request = remote_write.request_message()(symbols=["", "__name__", "latency", "s"])
    series = request.timeseries.add(labels_refs=[1, 2])
    series.metadata.unit_ref = 3
    histogram = series.histograms.add(
        count_int=6, sum=12.0, schema=2, zero_count_int=1, timestamp=TIME_MS,
        positive_deltas=[1, 1, 0],
    )  # fmt: skip
    histogram.positive_spans.add(offset=-1, length=2)
    histogram.positive_spans.add(offset=3, length=1)
    write = remote_write.batch_of_v2(request.SerializeToString(), ORIGIN)
    (record,) = write.batch.records
    assert (record.name, record.value, record.unit) == ("latency", 2.0, "s")
    assert record.attributes["metric.positive"] == [
        {"offset": -1, "counts": [1, 2]}, {"offset": 4, "counts": [2]},
    ]  # fmt: skip
    assert (write.written.samples, write.written.histograms) == (0, 1)
