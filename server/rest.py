"""Operations of the REST API: declared once, and by that routed, checked and documented."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.auth.middleware.auth_context import get_access_token
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mcp_hub.adapters.errors import Denied, HubError, Internal, InvalidArgument, names_hint
from mcp_hub.server.bodies import Bodies, encoding_of, type_of
from mcp_hub.server.endpoints import JSON, Endpoint, refuse_json
from mcp_hub.services.background import beside
from mcp_hub.tools.toolset import MAX_CALLER, is_admin

logger = logging.getLogger(__name__)

EVENTS = "text/event-stream"
HEARTBEAT_S = 5.0
"""Between comments of an event stream, by which both sides learn that the other is gone."""
AGAIN_MS = 1_000
"""After which a client that follows is told to come again."""

Result = BaseModel | Mapping[str, Any]


class Emit(Protocol):
    async def __call__(self, event: str, data: Result, id: str | None = None) -> None:
        """Send an event; returns when the connection has taken it."""
        ...


Work = Callable[[Emit], Awaitable[Result | None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the operation's own models of its query and its body."""

    request: Request
    query: Any
    body: Any

    @property
    def name(self) -> str:
        """Of the container, from the path."""
        name: str = self.request.path_params["name"]
        return name

    @property
    def is_admin(self) -> bool:
        return is_admin()

    @property
    def principal(self) -> str:
        """The token's name; empty where there are no tokens."""
        token = get_access_token()
        return token.client_id if token else ""

    @property
    def by(self) -> str:
        """Who asks, for the records."""
        agent = self.request.headers.get("user-agent", "")
        told = f"{self.principal} ({agent})" if self.principal and agent else agent
        return (told or self.principal or "unknown client")[:MAX_CALLER]


@dataclass(frozen=True, slots=True)
class Operation:
    """`answer` makes the result. `work` checks what was asked, and gives what makes the result and
    may tell of events meanwhile; without an `answer` it is used where no events are wanted too."""

    method: str
    path: str
    id: str
    summary: str
    result: Any
    """The model of the result; `dict` for any object."""
    answer: Callable[[Asked], Awaitable[Result]] | None = None
    work: Callable[[Asked], Awaitable[Work]] | None = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    changes: bool = False
    """Whether it needs a token that may write, and a hub that is not read-only."""
    events: Mapping[str, Any] = field(default_factory=dict)
    """The models of the events of `work`, by name, besides `result` and `error`."""
    endless: bool = False
    """Whether its events have no end, and are cut off when the server stops."""


class Rest:
    """Makes endpoints of operations."""

    def __init__(self, *, read_only: bool, drain_s: float) -> None:
        """`drain_s` is how long what is in flight when the server stops may take to end."""
        self._closed = (
            Denied("This hub is read-only.", "Change things by one that is not.")
            if read_only
            else None
        )
        self._drain_s = drain_s
        self._bodies = Bodies()

    def endpoint(self, operation: Operation) -> Endpoint:
        return Endpoint(
            partial(self._answer, operation),
            refuse_json,
            closed=self._closed if operation.changes else None,
        )

    async def _answer(self, operation: Operation, request: Request) -> Response:
        asked = Asked(
            request,
            _query(operation, request),
            await self._body(operation, request),
        )
        if operation.work is not None and _wants_events(request):
            return self._events(operation, await operation.work(asked))
        if operation.answer is not None:
            result: Result | None = await operation.answer(asked)
        else:
            assert operation.work is not None
            work = await operation.work(asked)
            result = await _unless_gone(request, partial(work, _untold))
        return Response(to_json(result), media_type=JSON)

    async def _body(self, operation: Operation, request: Request) -> Any:
        model = operation.body
        if model is None:
            return None

        def parse(data: bytes) -> Any:
            if data:
                type_of(request, (JSON,))
            return _parsed(partial(model.model_validate_json, data or b"{}"), model, "the body")

        with self._bodies.holding(request) as body:
            return await body.decode(parse, encoding_of(request))

    def _events(self, operation: Operation, work: Work) -> Response:
        # Of no size: what makes the events waits until the connection takes them.
        send, receive = anyio.create_memory_object_stream[ServerSentEvent](0)
        stopping = anyio.Event()
        return EventSourceResponse(
            _taken(receive),
            data_sender_callable=partial(_sending, operation, work, send, stopping),
            ping=HEARTBEAT_S,
            ping_message_factory=lambda: ServerSentEvent(comment="still here"),
            sep="\n",
            shutdown_event=stopping,
            shutdown_grace_period=self._drain_s,
        )


async def _sending(
    operation: Operation,
    work: Work,
    send: MemoryObjectSendStream[ServerSentEvent],
    stopping: anyio.Event,
) -> None:
    async def emit(event: str, data: Result, id: str | None = None) -> None:
        await send.send(ServerSentEvent(to_json(data).decode(), event=event, id=id))

    async def end(scope: anyio.CancelScope) -> None:
        await stopping.wait()
        scope.cancel()

    async with send:
        if not operation.endless:
            await _told(operation, work, emit)
            return
        await send.send(ServerSentEvent(retry=AGAIN_MS))
        async with beside(end):
            await _told(operation, work, emit)


async def _told(operation: Operation, work: Work, emit: Emit) -> None:
    """Do the work, and tell its result or error as an event."""
    try:
        result = await work(emit)
        if result is not None:
            await emit("result", result)
    except HubError as error:
        await emit("error", error.as_dict())
    except Exception:  # the request ends here
        logger.exception("%s failed", operation.id)
        await emit("error", Internal("The hub failed; its log says why.").as_dict())


async def _taken(
    receive: MemoryObjectReceiveStream[ServerSentEvent],
) -> AsyncIterator[ServerSentEvent]:
    async with receive:
        async for event in receive:
            yield event


async def _untold(event: str, data: Result, id: str | None = None) -> None:
    """Events that nobody asked for."""


async def _unless_gone(
    request: Request, work: Callable[[], Awaitable[Result | None]]
) -> Result | None:
    """The result of `work`, which is cancelled when the client goes; ClientDisconnect then."""

    async def watch(scope: anyio.CancelScope) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with beside(watch):
        return await work()
    raise ClientDisconnect


def _wants_events(request: Request) -> bool:
    return request.method != "HEAD" and EVENTS in request.headers.get("accept", "")


def _query(operation: Operation, request: Request) -> Any:
    model = operation.query
    if model is None:
        return None
    return _parsed(partial(model.model_validate, dict(request.query_params)), model, "the query")


def _parsed(parse: Callable[[], BaseModel], model: type[BaseModel], what: str) -> BaseModel:
    try:
        return parse()
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            hint = names_hint(str(fault["loc"][-1]), model.model_fields, "keys")
            raise InvalidArgument(f"There is no key {key!r} in {what}.", hint) from None
        told = f"{key} of {what}" if key else what
        raise InvalidArgument(f"What is wrong with {told}: {fault['msg']}.") from None
