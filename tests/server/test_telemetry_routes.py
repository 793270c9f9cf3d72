"""What comes in over HTTP, and what is refused and how."""

import gzip
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from mcp_hub.server.bodies import MAX_BYTES
from mcp_hub.services.telemetry.protocols.loki import push_message
from mcp_hub.services.telemetry.protocols.messages import status_message
from mcp_hub.services.telemetry.protocols.remote_write import request_message, write_message
from tests.processes import hub_environment

from .serving import Served, serving, wait_until_ready

EVENTS, METRICS, WRITE, PUSH = (
    "/api/telemetry/events", "/api/telemetry/metrics", "/api/v1/write", "/loki/api/v1/push",
)  # fmt: skip
PATHS = [EVENTS, METRICS, "/v1/traces", "/v1/metrics", "/v1/logs", PUSH, WRITE]
TOKENS = {"READER": ("r" * 20, "read"), "WRITER": ("w" * 20, "write")}
PROTOBUF = "application/x-protobuf"
STALE_NAN = 0x7FF0000000000002


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(hub_environment(tmp_path_factory.mktemp("hub"))) as served:
        wait_until_ready(served)
        yield served


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    variables = {}
    for name, (token, scopes) in TOKENS.items():
        variables[f"MCP_HUB_AUTH__TOKENS__{name}__TOKEN"] = token
        variables[f"MCP_HUB_AUTH__TOKENS__{name}__SCOPES"] = scopes
    with serving(hub_environment(tmp_path_factory.mktemp("guarded"), **variables)) as served:
        wait_until_ready(served)
        yield served


async def post(
    served: Served, path: str, body: bytes | str | list[Any] | dict[str, Any],
    type: str = "application/json", **headers: str,
) -> httpx2.Response:  # fmt: skip
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(timeout=60) as http:
        return await http.post(
            f"{served.url}{path}", content=content, headers={"content-type": type} | named
        )


async def test_one_object_an_array_and_lines(served: Served) -> None:
    one = await post(served, EVENTS, {"name": "a"})
    assert (one.status_code, one.json()["accepted"]) == (200, 1)
    many = await post(served, EVENTS, [{"name": "a"}, {"name": "b"}])
    assert many.json() == {"accepted": 2, "repeated": 0, "rejected": []}
    lines = '{"name": "a", "value": 1}\n\n{"name": "b"}\nnope\n'
    told = (await post(served, METRICS, lines, "application/x-ndjson")).json()
    assert told["accepted"] == 1
    assert [one["index"] for one in told["rejected"]] == [1, 2]


async def test_one_bad_record_in_a_thousand(served: Served) -> None:
    records = [{"name": "a"} for _ in range(1_000)]
    records[637] = {"name": "a", "severity": "loud"}
    response = await post(served, EVENTS, records)
    told = response.json()
    assert (response.status_code, told["accepted"]) == (200, 999)
    ((index, message),) = [(one["index"], one["message"]) for one in told["rejected"]]
    assert index == 637
    assert "loud" in message


async def test_ids_make_sending_again_safe(served: Served) -> None:
    records = [{"name": "a", "id": f"order-{n}", "time": time.time()} for n in range(3)]
    records.append(records[0])
    assert (await post(served, EVENTS, records)).json()["accepted"] == 3
    assert (await post(served, EVENTS, records)).json() == {
        "accepted": 0, "repeated": 4, "rejected": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "a", "time": "2999-01-01"}, "ahead"),
        ({"name": "a", "time": "1999-01-01"}, "before 2000"),
        ({"name": "a", "attributes": {str(n): n for n in range(10_000)}}, "10,000 attributes"),
        ({"name": "a", "colour": "red"}, "colour"),
        ({"name": "a", "attributes": {"a": "[" * 5_000}}, ""),
    ],
)
async def test_bad_records_are_told_why(
    served: Served, record: dict[str, Any], message: str
) -> None:
    response = await post(served, EVENTS, [record])
    told = response.json()
    if message:
        assert response.status_code == 400
        assert message in told["rejected"][0]["message"]
    else:
        assert told["accepted"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("nope", 400), ("", 400), ("[]", 400), ("3", 400), (b'[{"name": "\xff"}]', 400),
        ("[" * 100_000, 400), ("[" + "1," * 4_000_000 + "1]", 413),
        ([{"name": "a"}] * 5_001, 413), (b" " * (MAX_BYTES + 1), 413),
    ],
    ids=["word", "empty", "none", "number", "utf-8", "deep", "numbers", "many", "large"],
)  # fmt: skip
async def test_bad_bodies_are_refused(served: Served, body: Any, status: int) -> None:
    response = await post(served, EVENTS, body)
    assert response.status_code == status
    if "rejected" not in response.json():
        assert response.json()["code"] in {"invalid_argument", "limit_exceeded"}
    assert (await post(served, EVENTS, {"name": "a"})).status_code == 200


async def test_a_body_of_a_record_is_cut_and_says_so(served: Served) -> None:
    response = await post(served, EVENTS, {"name": "a", "body": "x" * 10_000_000})
    assert (response.status_code, response.json()["accepted"]) == (200, 1)


@pytest.mark.parametrize("path", PATHS)
async def test_other_types_and_encodings_are_refused(served: Served, path: str) -> None:
    assert (await post(served, path, b"x", "text/csv")).status_code == 415
    if path not in (PUSH, WRITE):
        refused = await post(served, path, b"{}", content_encoding="br")
        assert refused.status_code == 415


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
async def test_a_bomb_takes_no_memory(served: Served, path: str, pack: Any) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    bomb = pack(bytes(20 * MAX_BYTES))
    before = resident_mb(served)
    response = await post(served, path, bomb, PROTOBUF, content_encoding=encoding)
    assert response.status_code == 413
    assert resident_mb(served) < before + 40


async def test_a_snappy_bomb_is_refused_by_its_length(served: Served) -> None:
    bomb = bytes(cramjam.snappy.compress_raw(bytes(5 * MAX_BYTES)))
    for path in (PUSH, WRITE):
        assert (await post(served, path, bomb, PROTOBUF)).status_code == 413
        assert (await post(served, path, b"\xff\xff\xff\xff\x0f", PROTOBUF)).status_code == 413
        assert (await post(served, path, b"not snappy", PROTOBUF)).status_code == 400


def resident_mb(served: Served) -> float:
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def test_otlp_answers_in_the_encoding_of_the_request(served: Served) -> None:
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "a",
        "startTimeUnixNano": str(time.time_ns()), "endTimeUnixNano": str(time.time_ns()),
    }  # fmt: skip
    bad = span | {"traceId": "00"}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span, bad]}]}]}
    told = (await post(served, "/v1/traces", body)).json()["partialSuccess"]
    assert told["rejectedSpans"] == "1"
    assert told["errorMessage"].startswith("1: trace_id")
    assert (await post(served, "/v1/traces", {})).json() == {}

    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"x")
    body_ = gzip.compress(request.SerializeToString())
    response = await post(served, "/v1/traces", body_, PROTOBUF, content_encoding="gzip")
    assert response.headers["content-type"] == PROTOBUF
    answer = ExportTraceServiceResponse.FromString(response.content)
    assert answer.partial_success.rejected_spans == 1

    refused = await post(served, "/v1/traces", b"\xff", PROTOBUF)
    assert refused.status_code == 400
    assert status_message().FromString(refused.content).code == 3
    assert (await post(served, "/v1/traces", "nope")).json()["code"] == 3


async def test_loki_pushes(served: Served) -> None:
    now = str(time.time_ns())
    stream = {"stream": {"app": "shop"}, "values": [[now, "one"], [now, "two", {"level": "warn"}]]}
    assert (await post(served, PUSH, {"streams": [stream]})).status_code == 204
    bad = stream | {"values": [[now, "three"], ["soon", "four"]]}
    response = await post(served, PUSH, {"streams": [bad]})
    assert response.status_code == 400
    assert "1 entries were rejected, 1 kept: 1: time is 'soon'" in response.text

    request = push_message()()
    pushed = request.streams.add(labels='{app="shop"}')
    pushed.entries.add(line="one").timestamp.seconds = int(time.time())
    body = bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
    assert (await post(served, PUSH, body, PROTOBUF)).status_code == 204


async def test_remote_write_of_both_versions(served: Served) -> None:
    request = write_message()()
    series = request.timeseries.add()
    for name, value in (("__name__", "up"), ("job", "node")):
        series.labels.add(name=name, value=value)
    series.samples.add(value=1, timestamp=time.time_ns() // 10**6)
    series.samples.add(value=float("nan"), timestamp=time.time_ns() // 10**6)
    body = bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
    headers = {"content_encoding": "snappy"}
    assert (await post(served, WRITE, body, PROTOBUF, **headers)).status_code == 204

    second = request_message()(symbols=["", "__name__", "up"])
    second.timeseries.add(labels_refs=[1, 2]).samples.add(
        value=1, timestamp=time.time_ns() // 10**6
    )
    body = bytes(cramjam.snappy.compress_raw(second.SerializeToString()))
    type = f"{PROTOBUF};proto=io.prometheus.write.v2.Request"
    response = await post(served, WRITE, body, type, **headers)
    assert response.status_code == 204
    assert response.headers["x-prometheus-remote-write-samples-written"] == "1"


@pytest.mark.parametrize("path", PATHS)
async def test_a_token_that_may_write_is_needed(guarded: Served, path: str) -> None:
    async def status(token: str) -> int:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return (await post(guarded, path, b"{}", **headers)).status_code

    assert await status("") == 401
    assert await status("wrong") == 401
    assert await status(TOKENS["READER"][0]) == 403
    assert await status(TOKENS["WRITER"][0]) in {200, 400, 415}


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_of_the_web_is_refused(served: Served, path: str) -> None:
    response = await post(served, path, b"{}", origin="http://evil.example")
    assert response.status_code == 403


async def test_a_read_only_hub_takes_nothing(tmp_path: Path) -> None:
    with serving(hub_environment(tmp_path, MCP_HUB_READ_ONLY="true")) as served:
        wait_until_ready(served)
        assert (await post(served, EVENTS, {"name": "a"})).status_code == 403


async def test_without_a_database_it_is_to_be_sent_again(tmp_path: Path) -> None:
    (tmp_path / "data" / "hub.db").mkdir(parents=True)  # what SQLite cannot open
    with serving(hub_environment(tmp_path)) as served:
        response = await post(served, EVENTS, {"name": "a"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


async def test_a_million_label_values_take_bounded_memory(served: Served) -> None:
    before = resident_mb(served)
    for start in range(0, 100_000, 5_000):
        records = [
            {"name": "a", "value": 1, "attributes": {"user": f"u{start + n}"}} for n in range(5_000)
        ]
        assert (await post(served, METRICS, records)).json()["accepted"] == 5_000
    assert resident_mb(served) < before + 60
