"""Requests to servers that run as local processes: what calls and catalogs are made of, without an
engine."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.negotiating import Protocol, open_session
from mcp_hub.services.containers.wire.sessions import Session

from .wire.processes import SDK_SERVER, started

CLIENT = {"name": "mcp-hub", "version": "test"}


class Carrier:
    """Carries every request to one server, and remembers whose session it was for."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sessions: list[str | None] = []

    async def request(
        self,
        name: str,
        session: str | None,
        method: str,
        params: dict[str, Any],
        caller: Caller | None,
        timeout_s: float,
        *,
        is_repeatable: bool | None = None,
        revision: int | None = None,
    ) -> dict[str, Any]:
        self.sessions.append(session)
        return await self.session.request(method, params, caller=caller, timeout_s=timeout_s)

    @property
    def capabilities(self) -> dict[str, Any]:
        return self.session.server.capabilities

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return await self.session.request(method, params, timeout_s=20)


@asynccontextmanager
async def carrier(
    protocol: Protocol, told: Callable[[str, dict[str, Any]], None] | None = None
) -> AsyncIterator[Carrier]:
    async with started(SDK_SERVER) as pipes:
        channel = Channel(pipes, notified=told)
        async with in_background(channel.run):
            server = await open_session(channel, protocol, client=CLIENT, timeout_s=20)
            yield Carrier(Session(channel, server, CLIENT))
