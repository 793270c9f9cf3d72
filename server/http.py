"""The HTTP server: MCP at /mcp, /api, telemetry, and how the hub is: /health, /ready, /metrics."""

import errno
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import uvicorn
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_hub.adapters.errors import Conflict, HubError, InvalidArgument, Unavailable
from mcp_hub.server import openapi
from mcp_hub.server.app import CreateServer, create_server
from mcp_hub.server.auth import RequireWriting, StaticTokens
from mcp_hub.server.container_routes import ContainerRoutes
from mcp_hub.server.endpoints import DOCUMENT, refuse_unknown
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.lazy_hub import LazyHub, lazy_hub
from mcp_hub.server.observing import HttpSpans
from mcp_hub.server.rest import Asked, Operation, Rest
from mcp_hub.server.settings import Settings
from mcp_hub.server.telemetry_routes import TelemetryRoutes
from mcp_hub.services.telemetry.own.facts import facts_of
from mcp_hub.services.telemetry.own.meters import CONTENT_TYPE, Meters

logger = logging.getLogger(__name__)

MAX_BODY = 8 * 1024 * 1024
DRAIN_S = 20
"""How long calls in flight may take to end; Kubernetes kills 30 s after it says so, 5 s of which
deploy/ spends before this begins."""
_TRY_AGAIN_S = 2.0
_COLLECT_AFTER = (10_000, 20, 50)


async def serve(settings: Settings, create: CreateServer = create_server) -> None:
    """Serve what `create` makes over HTTP until SIGTERM or SIGINT, and calls in flight to the end.

    Raises:
        InvalidArgument: the address is not loopback and there is no token, or is none of ours.
        Conflict: the port is taken, or the database is newer than this program.
    """
    _check_exposure(settings)
    listener = _listen(settings.host, settings.port)
    failures: list[HubError] = []
    async with lazy_hub(settings) as hub:
        mcp = create(settings, hub, transport="http")
        app = create_app(settings, hub, mcp)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        host, port = listener.getsockname()[:2]
        logger.info("MCP at http://%s:%d/mcp", f"[{host}]" if ":" in host else host, port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, server, app.state.end_streams, mcp, hub)
            tasks.start_soon(_open, hub, server, failures)
            await server.serve(sockets=[listener])
            tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]


def create_app(settings: Settings, hub: LazyHub, mcp: HubServer) -> Starlette:
    """The ASGI application: MCP for both protocol eras, health, and who is let in."""
    loopback = is_loopback(settings.host)
    security = TransportSecuritySettings(
        # A page of the web can reach this address under a name of its own (DNS rebinding), but
        # it knows no token, and without tokens the address is always loopback.
        enable_dns_rebinding_protection=loopback,
        allowed_hosts=[name for host in _names(settings.host) for name in (host, f"{host}:*")],
        allowed_origins=[
            origin
            for host in _names(settings.host)
            for origin in (f"http://{host}", f"http://{host}:*")
        ],
    )
    manager = StreamableHTTPSessionManager(
        app=mcp, security_settings=security, max_request_body_size=MAX_BODY
    )
    streams = _EventStreams(StreamableHTTPASGIApp(manager))
    endpoint: ASGIApp = streams
    middleware = [
        Middleware(_TrimmedHeaders),
        Middleware(HttpSpans, own=hub.own),
        Middleware(_HostGuard, settings=security),
    ]
    tokens = settings.auth.tokens
    if tokens:
        endpoint = RequireAuthMiddleware(endpoint, required_scopes=[])
        backend = BearerAuthBackend(StaticTokens(tokens))
        middleware += [
            Middleware(AuthenticationMiddleware, backend=backend),
            Middleware(AuthContextMiddleware),
        ]

    async def health(request: Request) -> JSONResponse:
        """Liveness: answers as long as the process does, whatever the adapters do."""
        report: dict[str, Any] = {"status": "starting", "adapters": {}}
        if hub.opened:
            report = (await (await hub()).health.check()).model_dump()
        elif hub.failure is not None:
            report |= {"status": "unavailable", "error": hub.failure.as_dict()}
        if tokens and not request.user.is_authenticated:
            report = {"status": report["status"]}
        return JSONResponse(report)

    async def ready(_request: Request) -> JSONResponse:
        """Readiness: the database has this program's schema and answers."""
        if not hub.opened:
            return JSONResponse({"status": "starting"}, status_code=503)
        # What else may be silent is no reason to be sent no requests, nor to answer slowly.
        report = await (await hub()).health.check(only=["database"])
        answers = report.adapters["database"].status == "ok"
        status = "ready" if answers else "unavailable"
        return JSONResponse({"status": status}, status_code=200 if answers else 503)

    meters = hub.own.observer(Meters)

    async def metrics(request: Request) -> Response:
        """For Prometheus; it scrapes with a token where there are tokens."""
        if tokens and not request.user.is_authenticated:
            challenge = {"www-authenticate": "Bearer"}
            return Response("A token is needed.\n", status_code=401, headers=challenge)
        facts = await facts_of(await hub()) if hub.opened else None
        return Response(await meters.text(facts), headers={"content-type": CONTENT_TYPE})

    app = Starlette(
        routes=[
            Route("/metrics", endpoint=metrics),
            Route("/mcp", endpoint=endpoint),
            Route("/health", endpoint=health),
            Route("/ready", endpoint=ready),
            *_telemetry(settings, hub),
            *_rest(settings, hub),
        ],
        middleware=middleware,
        exception_handlers={HTTPException: refuse_unknown},
        lifespan=lambda _: manager.run(),
    )
    app.state.end_streams = streams.end
    return app


def _telemetry(settings: Settings, hub: LazyHub) -> list[Route]:
    endpoints = TelemetryRoutes(hub).endpoints(read_only=settings.read_only)
    return [
        Route(path, endpoint=_guarded(settings, endpoint, changes=True), methods=["POST"])
        for path, endpoint in endpoints.items()
    ]


def _rest(settings: Settings, hub: LazyHub) -> list[Route]:
    """The operations of the REST API, and the document that tells of them."""

    async def describe(_asked: Asked) -> dict[str, Any]:
        return openapi.document(operations)

    summary = "This document"
    operations = [
        *ContainerRoutes(hub).operations(),
        Operation("GET", DOCUMENT, "describe", summary, dict, describe),
    ]
    rest = Rest(read_only=settings.read_only, drain_s=DRAIN_S)
    return [
        Route(
            one.path,
            endpoint=_guarded(settings, rest.endpoint(one), changes=one.changes),
            methods=[one.method],
        )
        for one in operations
    ]


def _guarded(settings: Settings, endpoint: ASGIApp, *, changes: bool) -> ASGIApp:
    """`endpoint` for those whose token, where there are tokens, may do such a thing."""
    if not settings.auth.tokens:
        return endpoint
    return RequireAuthMiddleware(
        RequireWriting(endpoint) if changes else endpoint, required_scopes=[]
    )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(host: str) -> list[str]:
    """What a request may call a server that listens on the loopback address `host`."""
    own = f"[{host}]" if ":" in host else host
    return list(dict.fromkeys(["127.0.0.1", "localhost", "[::1]", own]))


def _check_exposure(settings: Settings) -> None:
    if settings.auth.tokens or is_loopback(settings.host):
        return
    raise InvalidArgument(
        f"Without a token, mcp-hub does not listen on {settings.host}: anyone who reaches it "
        "could use it.",
        "Set one (16 characters or more), such as MCP_HUB_AUTH__TOKENS__TEAM__TOKEN=… with "
        "MCP_HUB_AUTH__TOKENS__TEAM__SCOPES=read,write, or listen on 127.0.0.1.",
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"Port {port} of {host} is taken.",
                "Another mcp-hub may be serving already; choose with --port, 0 for a free one.",
            ) from None
        raise InvalidArgument(
            f"mcp-hub cannot listen on {host} port {port}: {error.strerror}.",
            "Choose an address of this machine with --host and a free port with --port.",
        ) from None


async def _open(hub: LazyHub, server: uvicorn.Server, failures: list[HubError]) -> None:
    """Open the hub ahead of the first call; give up where trying again cannot help."""
    while not hub.opened:
        try:
            await hub()
            _settle()
        except Unavailable as error:
            logger.error("Not ready: %s %s", error.message, error.hint or "")
            await anyio.sleep(_TRY_AGAIN_S)
        except HubError as error:
            failures.append(error)
            server.should_exit = True
            return


def _settle() -> None:
    """Keep what was loaded out of the garbage collector's way: each full pass over it took long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


async def _stop_on_signal(
    server: uvicorn.Server, end_streams: Callable[[], None], mcp: HubServer, hub: LazyHub
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            logger.info("Stopping on %s", number.name)
            server.handle_exit(number, None)
            mcp.notices.close_streams()
            end_streams()
            if hub.opened:
                (await hub()).training.end_waits()


class _EventStreams:
    """Ends the event streams of 2025-era sessions, which last until the client goes, on request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._scopes: set[anyio.CancelScope] = set()
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        if self._ended:
            # Clients open another one at once.
            await JSONResponse({"status": "stopping"}, status_code=503)(scope, receive, send)
            return
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        with anyio.CancelScope() as cancelling:
            self._scopes.add(cancelling)
            try:
                await self._app(scope, receive, note)
            finally:
                self._scopes.discard(cancelling)
        if cancelling.cancelled_caught and begun:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def end(self) -> None:
        self._ended = True
        for scope in self._scopes:
            scope.cancel()


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own, which would end the process unclosed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _TrimmedHeaders:
    """Takes blanks off the ends of header values (RFC 9110, 5.5), where llhttp leaves some."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        await self._app(scope, receive, send)


class _HostGuard:
    """Refuses requests that name another host or come from another origin, on every path."""

    def __init__(self, app: ASGIApp, settings: TransportSecuritySettings) -> None:
        self._app = app
        self._security = TransportSecurityMiddleware(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = await self._security.validate_request(Request(scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)
