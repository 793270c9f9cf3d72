"""The HTTP server: MCP at /mcp, and how the hub is at /health, /ready and /metrics."""

import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import uvicorn
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_hub.adapters.errors import Conflict, HubError, InvalidArgument, Unavailable
from mcp_hub.server.app import CreateServer, HubServer, create_server
from mcp_hub.server.auth import StaticTokens
from mcp_hub.server.lazy_hub import LazyHub, lazy_hub
from mcp_hub.server.observing import HttpSpans
from mcp_hub.server.settings import Settings
from mcp_hub.services.telemetry.facts import facts_of
from mcp_hub.services.telemetry.meters import CONTENT_TYPE, Meters

logger = logging.getLogger(__name__)

MAX_BODY = 8 * 1024 * 1024
_SHUTDOWN_S = 5
_TRY_AGAIN_S = 2.0


async def serve(settings: Settings, create: CreateServer = create_server) -> None:
    """Serve what `create` makes over HTTP until SIGTERM or SIGINT.

    Raises:
        InvalidArgument: the address is not loopback and there is no token, or is none of ours.
        Conflict: the port is taken, or the database is newer than this program.
    """
    _check_exposure(settings)
    listener = _listen(settings.host, settings.port)
    failures: list[HubError] = []
    async with lazy_hub(settings) as hub:
        mcp = create(settings, hub, transport="http")
        server = _Server(
            uvicorn.Config(
                create_app(settings, hub, mcp),
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )
        host, port = listener.getsockname()[:2]
        logger.info("MCP at http://%s:%d/mcp", f"[{host}]" if ":" in host else host, port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, server, mcp)
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
    endpoint: ASGIApp = StreamableHTTPASGIApp(manager)
    middleware = [Middleware(HttpSpans, own=hub.own), Middleware(_HostGuard, settings=security)]
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
        if not hub.opened:
            return JSONResponse({"status": "starting", "adapters": {}})
        report = (await (await hub()).health.check()).model_dump()
        if tokens and not request.user.is_authenticated:
            report = {"status": report["status"]}
        return JSONResponse(report)

    async def ready(_request: Request) -> JSONResponse:
        """Readiness: the database has this program's schema and answers."""
        if not hub.opened:
            return JSONResponse({"status": "starting"}, status_code=503)
        report = await (await hub()).health.check()
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

    return Starlette(
        routes=[
            Route("/metrics", endpoint=metrics),
            Route("/mcp", endpoint=endpoint),
            Route("/health", endpoint=health),
            Route("/ready", endpoint=ready),
        ],
        middleware=middleware,
        lifespan=lambda _: manager.run(),
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
        except Unavailable as error:
            logger.error("Not ready: %s %s", error.message, error.hint or "")
            await anyio.sleep(_TRY_AGAIN_S)
        except HubError as error:
            failures.append(error)
            server.should_exit = True
            return


async def _stop_on_signal(server: uvicorn.Server, mcp: HubServer) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            logger.info("Stopping on %s", number.name)
            logging.getLogger("uvicorn.error").addFilter(_is_news)
            mcp.notices.close_streams()
            server.handle_exit(number, None)


def _is_news(record: logging.LogRecord) -> bool:
    """Not that the event streams of 2025-era sessions are cut short: that is what stopping does."""
    return "returned without completing response" not in record.getMessage()


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own, which would end the process unclosed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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
