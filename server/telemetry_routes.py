"""The routes by which telemetry comes in: JSON, OTLP, Loki's push, Prometheus's remote write.

Each answers, in its protocol's terms, once the records are committed: 400 for what is wrong and
would be again, 413 and 415 for what is too large or of another type, and 503 with Retry-After for
what is to be sent again later.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mcp_hub.adapters.errors import (
    Denied,
    HubError,
    Internal,
    InvalidArgument,
    LimitExceeded,
    Unavailable,
)
from mcp_hub.server.telemetry_bodies import Bodies, Unsupported, encoding_of, type_of
from mcp_hub.services.hub import HubProvider
from mcp_hub.services.telemetry.envelope import Kind
from mcp_hub.services.telemetry.intake.accepting import (
    Batch,
    Rejected,
    from_json,
    from_lines,
    too_many,
)
from mcp_hub.services.telemetry.intake.ingest import MAX_WAITING, RETRY_AFTER_S, Accepted, Commit
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

logger = logging.getLogger(__name__)

_JSON = "application/json"
_LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
_PROTOBUF = "application/x-protobuf"
_SHOWN = 5

Answer = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[Request, int, HubError], Response]


class Endpoint:
    """An ASGI endpoint: `answer`, or what `refuse` makes of the error that it raises."""

    def __init__(self, answer: Answer, refuse: Refuse, *, read_only: bool) -> None:
        self._answer = answer
        self._refuse = refuse
        self._read_only = read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if self._read_only:
                raise Denied("This hub is read-only.", "Send telemetry to one that is not.")
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except HubError as error:
            response = self._refused(request, error)
        except Exception:
            logger.exception("%s failed", request.url.path)
            response = self._refused(request, Internal("The hub failed; its log says why."))
        await response(scope, receive, send)

    def _refused(self, request: Request, error: HubError) -> Response:
        response = self._refuse(request, _status_of(error), error)
        if response.status_code == 503:
            response.headers["retry-after"] = str(RETRY_AFTER_S)
        return response


class TelemetryRoutes:
    """The endpoints, by path; `hub` is opened by the first request that needs it."""

    def __init__(self, hub: HubProvider) -> None:
        self._hub = hub
        self._bodies = Bodies()

    def endpoints(self, *, read_only: bool) -> dict[str, Endpoint]:
        """Every endpoint, all for POST."""
        made: dict[str, tuple[Answer, Refuse]] = {
            "/api/telemetry/events": (partial(self._records, "event"), _refuse_json),
            "/api/telemetry/metrics": (partial(self._records, "metric"), _refuse_json),
            "/v1/traces": (partial(self._otlp, "traces"), _refuse_otlp),
            "/v1/metrics": (partial(self._otlp, "metrics"), _refuse_otlp),
            "/v1/logs": (partial(self._otlp, "logs"), _refuse_otlp),
            "/loki/api/v1/push": (self._loki, _refuse_text),
            "/api/v1/write": (self._remote_write, _refuse_text),
        }
        return {
            path: Endpoint(answer, refuse, read_only=read_only)
            for path, (answer, refuse) in made.items()
        }

    async def _records(self, kind: Kind, request: Request) -> Response:
        lines = type_of(request, (_JSON, *_LINES)) != _JSON
        decode = partial(from_lines if lines else from_json, default_kind=kind)

        def decode_some(data: bytes) -> Batch:
            batch = decode(data)
            if not batch.records and not batch.rejected:
                raise ValueError("there is no record in it")
            return batch

        done = await self._commit(request, decode_some)
        nothing = done.rejected and not done.accepted and not done.repeated
        return _json(
            _Recorded(done.accepted, done.repeated, done.rejected), 400 if nothing else 200
        )

    async def _otlp(self, signal: Signal, request: Request) -> Response:
        as_json = type_of(request, (_PROTOBUF, _JSON)) == _JSON

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
        if type_of(request, (_JSON, _PROTOBUF)) == _JSON:
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


def _status_of(error: HubError) -> int:
    if isinstance(error, Unsupported):
        return 415
    if isinstance(error, InvalidArgument):
        return 400
    if isinstance(error, LimitExceeded):
        return 413
    if isinstance(error, Unavailable):
        return 503
    return 403 if isinstance(error, Denied) else 500


def _json(content: object, status: int) -> Response:
    return Response(msgspec.json.encode(content), status, media_type=_JSON)


def _refuse_json(_request: Request, status: int, error: HubError) -> Response:
    return _json(error.as_dict(), status)


def _refuse_text(_request: Request, status: int, error: HubError) -> Response:
    return Response(_said(error), status, media_type="text/plain")


_GRPC = {400: 3, 403: 7, 413: 8, 415: 3, 503: 14}


def _refuse_otlp(request: Request, status: int, error: HubError) -> Response:
    code = _GRPC.get(status, 13)
    if request.headers.get("content-type", "").startswith(_JSON):
        return _json({"code": code, "message": _said(error)}, status)
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
        return _json({"partialSuccess": told} if rejected else {}, 200)
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
