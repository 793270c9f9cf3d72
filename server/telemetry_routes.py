"""The routes by which telemetry comes in: JSON, OTLP, Loki's push, Prometheus's remote write.

Each answers, in its protocol's terms, once the records are committed: 400 for what is wrong and
would be again, 413 and 415 for what is too large or of another type, and 503 with Retry-After for
what is to be sent again later.
"""

from collections.abc import Callable
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mcp_hub.adapters.errors import Denied, HubError
from mcp_hub.server.bodies import Bodies, encoding_of, type_of
from mcp_hub.server.endpoints import JSON, Answer, Endpoint, Refuse, json_response, refuse_json
from mcp_hub.services.hub import HubProvider
from mcp_hub.services.telemetry.envelope import Kind
from mcp_hub.services.telemetry.intake.accepting import (
    Batch,
    Rejected,
    from_json,
    from_lines,
    too_many,
)
from mcp_hub.services.telemetry.intake.ingest import MAX_WAITING, Accepted, Commit
from mcp_hub.services.telemetry.protocols import (
    loki,
    otlp,
    otlp_logs,
    otlp_metrics,
    otlp_traces,
    remote_write,
)
from mcp_hub.services.telemetry.protocols.messages import status_message
from mcp_hub.services.telemetry.protocols.otlp import Origin, Signal

_LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
_PROTOBUF = "application/x-protobuf"
DOCUMENTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "/api/telemetry/events": ("Events, as JSON or lines of it", (JSON, *_LINES)),
    "/api/telemetry/metrics": ("Metrics, as JSON or lines of it", (JSON, *_LINES)),
    "/v1/traces": ("Traces by OTLP", (_PROTOBUF, JSON)),
    "/v1/metrics": ("Metrics by OTLP", (_PROTOBUF, JSON)),
    "/v1/logs": ("Logs by OTLP", (_PROTOBUF, JSON)),
    "/loki/api/v1/push": ("Logs by Loki's push", (JSON, _PROTOBUF)),
    "/api/v1/write": ("Metrics by Prometheus's remote write", (_PROTOBUF,)),
}
"""What each route takes, and of which types."""
_SHOWN = 5
_READ_ONLY = Denied("This hub is read-only.", "Send telemetry to one that is not.")


class TelemetryRoutes:
    """The endpoints, by path; `hub` is opened by the first request that needs it."""

    def __init__(self, hub: HubProvider) -> None:
        self._hub = hub
        self._bodies = Bodies()

    def endpoints(self, *, read_only: bool) -> dict[str, Endpoint]:
        """Every endpoint, all for POST."""
        made: dict[str, tuple[Answer, Refuse]] = {
            "/api/telemetry/events": (partial(self._records, "event"), refuse_json),
            "/api/telemetry/metrics": (partial(self._records, "metric"), refuse_json),
            "/v1/traces": (partial(self._otlp, "traces"), _refuse_otlp),
            "/v1/metrics": (partial(self._otlp, "metrics"), _refuse_otlp),
            "/v1/logs": (partial(self._otlp, "logs"), _refuse_otlp),
            "/loki/api/v1/push": (self._loki, _refuse_text),
            "/api/v1/write": (self._remote_write, _refuse_text),
        }
        return {
            path: Endpoint(answer, refuse, closed=_READ_ONLY if read_only else None)
            for path, (answer, refuse) in made.items()
        }

    async def _records(self, kind: Kind, request: Request) -> Response:
        lines = type_of(request, (JSON, *_LINES)) != JSON
        decode = partial(from_lines if lines else from_json, default_kind=kind)

        def decode_some(data: bytes) -> Batch:
            batch = decode(data)
            if not batch.records and not batch.rejected:
                raise ValueError("there is no record in it")
            return batch

        done = await self._commit(request, decode_some)
        nothing = done.rejected and not done.accepted and not done.repeated
        return json_response(
            _Recorded(done.accepted, done.repeated, done.rejected), 400 if nothing else 200
        )

    async def _otlp(self, signal: Signal, request: Request) -> Response:
        as_json = type_of(request, (_PROTOBUF, JSON)) == JSON

        def decode(data: bytes) -> Batch:
            parse = otlp.parse_json if as_json else otlp.parse_protobuf
            message = parse(data, signal)
            if signal == "traces":
                return otlp_traces.batch_of(message)
            if signal == "metrics":
                return otlp_metrics.batch_of(message, Origin(data))
            return otlp_logs.batch_of(message, Origin(data))

        done = await self._commit(request, decode)
        return _otlp_answer(signal, done, as_json=as_json)

    async def _loki(self, request: Request) -> Response:
        if type_of(request, (JSON, _PROTOBUF)) == JSON:
            encoding, decode = encoding_of(request), loki.batch_of_json
        else:
            # Loki's Protocol Buffers are always packed so, and its clients do not say it.
            encoding, decode = "snappy", loki.batch_of_protobuf
        done = await self._commit(request, lambda data: decode(data, Origin(data)), encoding)
        return _plain(done, "entries")

    async def _remote_write(self, request: Request) -> Response:
        type_of(request, (_PROTOBUF,))
        second = "io.prometheus.write.v2.Request" in request.headers["content-type"]
        written = {}

        def decode(data: bytes) -> Batch:
            write = (remote_write.batch_of_v2 if second else remote_write.batch_of)(
                data, Origin(data)
            )
            written["samples"] = write.written.samples
            written["histograms"] = write.written.histograms
            return write.batch

        done = await self._commit(request, decode, encoding_of(request) or "snappy")
        response = _plain(done, "samples")
        if second:
            for name in ("samples", "histograms", "exemplars"):
                header = f"x-prometheus-remote-write-{name}-written"
                response.headers[header] = str(written.get(name, 0))
        return response

    async def _commit(
        self, request: Request, decode: Callable[[bytes], Batch], encoding: str | None = None
    ) -> Accepted:
        """What became of the records that `decode` finds in the body."""
        if encoding is None:
            encoding = encoding_of(request)
        ingest = (await self._hub()).telemetry.ingest
        await ingest.ready()

        def decode_and_prepare(data: bytes) -> Commit:
            batch = decode(data)
            if len(batch.records) > MAX_WAITING:
                raise too_many(MAX_WAITING)
            return ingest.prepare(batch)

        with self._bodies.holding(request) as body:
            commit = await body.decode(decode_and_prepare, encoding)
            return await commit()


class _Recorded(msgspec.Struct):
    accepted: int
    repeated: int
    rejected: list[Rejected]


def _refuse_text(_request: Request, status: int, error: HubError) -> Response:
    return Response(_said(error), status, media_type="text/plain")


_GRPC = {400: 3, 403: 7, 413: 8, 415: 3, 503: 14}


def _refuse_otlp(request: Request, status: int, error: HubError) -> Response:
    code = _GRPC.get(status, 13)
    if request.headers.get("content-type", "").startswith(JSON):
        return json_response({"code": code, "message": _said(error)}, status)
    message = status_message()(code=code, message=_said(error))
    return Response(message.SerializeToString(), status, media_type=_PROTOBUF)


def _otlp_answer(signal: Signal, done: Accepted, *, as_json: bool) -> Response:
    """An export response: empty, or with what was rejected and why."""
    rejected = len({one.index for one in done.rejected})
    names: dict[Signal, tuple[str, str]] = {
        "traces": ("rejectedSpans", "rejected_spans"),
        "metrics": ("rejectedDataPoints", "rejected_data_points"),
        "logs": ("rejectedLogRecords", "rejected_log_records"),
    }
    camel, snake = names[signal]
    if as_json:
        told = {camel: str(rejected), "errorMessage": _reasons(done.rejected)}
        return json_response({"partialSuccess": told} if rejected else {}, 200)
    message = otlp.response_message(signal)()
    if rejected:
        setattr(message.partial_success, snake, rejected)
        message.partial_success.error_message = _reasons(done.rejected)
    return Response(message.SerializeToString(), 200, media_type=_PROTOBUF)


def _plain(done: Accepted, what: str) -> Response:
    """204; 400 if some were rejected: the others are kept, and these would be rejected again."""
    if not done.rejected:
        return Response(status_code=204)
    kept = done.accepted + done.repeated
    text = f"{len(done.rejected)} {what} were rejected, {kept} kept: {_reasons(done.rejected)}"
    return Response(text, 400, media_type="text/plain")


def _reasons(rejected: list[Rejected]) -> str:
    shown = "; ".join(f"{one.index}: {one.message}" for one in rejected[:_SHOWN])
    more = len(rejected) - _SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


def _said(error: HubError) -> str:
    return f"{error.message} {error.hint}" if error.hint else error.message
