"""Catalogs kept as they are: a server that says its lists changed is listed again."""

import logging
from typing import Any, Protocol

import anyio

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.containers.calling import Requests
from mcp_hub.services.containers.catalog import KINDS, Catalogs
from mcp_hub.services.containers.wire.sessions import ServerInfo

logger = logging.getLogger(__name__)

_LIST_S = 30.0
_REST_S = 0.2
"""Between listings, however often a server says that something changed."""
_CHANGED = frozenset(f"notifications/{kind.capability}/list_changed" for kind in KINDS)

Whose = tuple[str, int, str | None]
"""Name, revision, and the session that an instance belongs to."""


class Servers(Requests, Protocol):
    async def server_info(self, name: str, session: str | None = None) -> ServerInfo:
        """What a server said of itself. Raises HubErrors where it cannot be started."""
        ...


class Following:
    def __init__(self, catalogs: Catalogs, servers: Servers) -> None:
        self._catalogs = catalogs
        self._servers = servers
        self._changed: dict[Whose, None] = {}
        self._woken = anyio.Event()

    def notified(self, whose: Whose, method: str) -> None:
        """Take a server's notification; returns at once."""
        if method in _CHANGED:
            self._changed[whose] = None
            self._woken.set()

    async def run(self) -> None:
        """List again what changed, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            while self._changed:
                whose = next(iter(self._changed))
                del self._changed[whose]
                try:
                    await self._list(whose)
                except HubError as error:
                    logger.warning("The new lists of %s are not known: %s", whose[0], error)
            await anyio.sleep(_REST_S)

    async def _list(self, whose: Whose) -> None:
        name, revision, session = whose
        server = await self._servers.server_info(name, session)

        async def request(method: str, params: dict[str, Any]) -> dict[str, Any]:
            return await self._servers.request(
                name, session, method, params, None, _LIST_S, is_repeatable=True
            )

        await self._catalogs.refresh(name, revision, request, server.capabilities)
