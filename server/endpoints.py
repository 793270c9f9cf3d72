"""What ends a request in an answer: the result, or the error in the route's own form."""

import logging
from collections.abc import Awaitable, Callable

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mcp_hub.adapters.errors import (
    Conflict,
    Denied,
    HubError,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    TimedOut,
    Unavailable,
)
from mcp_hub.server.bodies import Unsupported
from mcp_hub.services.telemetry.intake.ingest import RETRY_AFTER_S

logger = logging.getLogger(__name__)

JSON = "application/json"
DOCUMENT = "/api/openapi.json"
"""Where everything that is served is described."""

Answer = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[Request, int, HubError], Response]

STATUSES: dict[type[HubError], int] = {
    Unsupported: 415, InvalidArgument: 400, Denied: 403, NotFound: 404, Conflict: 409,
    LimitExceeded: 413, Unavailable: 503, TimedOut: 504,
}  # fmt: skip
"""Of an error of that kind, or of the first whose kind it is derived from; 500 of any other."""


class Endpoint:
    """An ASGI endpoint: `answer`, or what `refuse` makes of the error that it raises."""

    def __init__(self, answer: Answer, refuse: Refuse, *, closed: HubError | None = None) -> None:
        """With `closed`, that is what every request is refused with."""
        self._answer = answer
        self._refuse = refuse
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if self._closed is None:
                response = await self._answer(request)
            else:
                response = self._refused(request, self._closed)
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


def json_response(content: object, status: int) -> Response:
    return Response(msgspec.json.encode(content), status, media_type=JSON)


def refuse_json(_request: Request, status: int, error: HubError) -> Response:
    return json_response(error.as_dict(), status)


async def refuse_unknown(request: Request, error: Exception) -> Response:
    """What a path or method that no route has is answered: as the routes refuse."""
    assert isinstance(error, HTTPException)
    refused: HubError = NotFound(f"There is nothing at {request.url.path}.", f"See {DOCUMENT}.")
    if allowed := (error.headers or {}).get("Allow"):
        refused = InvalidArgument(f"{request.url.path} takes {allowed}, not {request.method}.")
    response = refuse_json(request, error.status_code, refused)
    response.headers.update(error.headers or {})
    return response


def _status_of(error: HubError) -> int:
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
