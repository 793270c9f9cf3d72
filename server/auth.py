"""Bearer tokens: who may call `mcp-hub serve`, and what they may do."""

import hmac
from collections.abc import Mapping

from mcp.server.auth.provider import AccessToken
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_hub.adapters.errors import Denied
from mcp_hub.server.settings import WRITING
from mcp_hub.server.settings_sections import TokenSettings


class StaticTokens:
    """The SDK's `TokenVerifier` over the tokens of the settings.

    A token with the scope `read` sees and calls what changes nothing; `write` adds the rest.
    `admin` includes both, and is kept for what only an operator should do.
    """

    def __init__(self, tokens: Mapping[str, TokenSettings]) -> None:
        self._known = [
            (settings.token.get_secret_value().encode(), name, list(settings.scopes))
            for name, settings in tokens.items()
        ]

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token's name and scopes, or None. Takes as long whatever is wrong with it."""
        found = None
        for secret, name, scopes in self._known:
            if hmac.compare_digest(secret, token.encode()):
                found = AccessToken(token=token, client_id=name, scopes=scopes)
        return found


class RequireWriting:
    """Lets in, of those whose token is known, those that may change something."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if WRITING.isdisjoint(scope["auth"].scopes):
            error = Denied("This token may only read.", "Use a token with the scope write.")
            await JSONResponse(error.as_dict(), status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
