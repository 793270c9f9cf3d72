"""A session with one MCP server, in the era of the protocol that it speaks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import anyio
from mcp.types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    LOG_LEVEL_META_KEY,
    PROTOCOL_VERSION_META_KEY,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.telemetry.own.tracing import current

CAPABILITIES: Mapping[str, Any] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {},
    "roots": {},
}
"""What the hub passes on to its own client, which may refuse it when asked."""

_ENVELOPE = frozenset(
    {
        PROTOCOL_VERSION_META_KEY, CLIENT_INFO_META_KEY, CLIENT_CAPABILITIES_META_KEY,
        LOG_LEVEL_META_KEY,
    }
)  # fmt: skip
_LISTS = ("tools", "prompts", "resources")
_LISTEN_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server said when it was greeted, in JSON's types: enough to go on with it later."""

    protocol: str
    """The version of the protocol that is spoken with it."""
    name: str
    version: str
    capabilities: dict[str, Any]
    instructions: str | None = None

    @property
    def is_modern(self) -> bool:
        """Whether each request tells who asks, as from 2026-07-28 on; before, a handshake does."""
        return self.protocol in MODERN_PROTOCOL_VERSIONS

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        return cls(**{field.name: stored[field.name] for field in fields(cls)})


class Session:
    """Requests to a server that has been greeted, by this process or by one before it.

    A server of the handshake era asks in the middle of a call: its questions go to the call's
    `Caller`. A server of 2026-07-28 answers `{"resultType": "input_required", …}` instead, which
    is returned as it is: the hub's own client of that era gets it, and calls again with
    `inputResponses` and `requestState` among its params, which pass through to the server. For
    a client of the older era `input_required.resolving` asks and calls again.
    """

    def __init__(
        self,
        channel: Channel,
        server: ServerInfo,
        client: Mapping[str, Any],
        capabilities: Mapping[str, Any] = CAPABILITIES,
    ) -> None:
        """`client` is the `{name, version}` by which the hub introduces itself."""
        self.channel = channel
        self.server = server
        self._envelope = envelope(server.protocol, client, capabilities) if server.is_modern else {}

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        caller: Caller | None = None,
        timeout_s: float | None,
    ) -> dict[str, Any]:
        """As `Channel.request`, with the `_meta` of the server's era and the current trace.

        What the `_meta` of `params` says of the caller's capabilities and log level goes to
        a server of 2026-07-28; of its version and name it is told the hub's.
        """
        meta = dict(params.get("_meta") or {})
        if self.server.is_modern:
            given = {key: meta[key] for key in _PASSED_ON if key in meta}
            meta |= self._envelope | given
        else:
            # Such a server refuses a request that has any of them.
            meta = {key: value for key, value in meta.items() if key not in _ENVELOPE}
        if "traceparent" not in meta and (trace := current()):
            meta["traceparent"] = trace.traceparent
        complete = {key: value for key, value in params.items() if key != "_meta"}
        if meta:
            complete["_meta"] = meta
        return await self.channel.request(method, complete, caller=caller, timeout_s=timeout_s)

    async def ping(self, timeout_s: float) -> None:
        """Return if the server answers anything at all. Raises TimedOut and Unavailable."""
        method = "server/discover" if self.server.is_modern else "ping"
        try:
            await self.request(method, {}, timeout_s=timeout_s)
        except RpcError:
            return

    async def listen(self, uris: tuple[str, ...] = ()) -> None:
        """Have a server of 2026-07-28 tell of changes of its lists, and of the resources `uris`.

        They come as notifications of the channel's. Lasts until cancelled, until the channel
        ends, or for good where the server cannot; returns at once for an older server, which
        tells of its lists unasked, and of a resource after `resources/subscribe`.
        """
        wanted: dict[str, Any] = {
            f"{name}ListChanged": True
            for name in _LISTS
            if (self.server.capabilities.get(name) or {}).get("listChanged")
        }
        if uris:
            wanted["resourceSubscriptions"] = list(uris)
        if not self.server.is_modern or not wanted:
            return
        while True:
            try:
                await self.request(
                    "subscriptions/listen", {"notifications": wanted}, timeout_s=None
                )
            except (RpcError, Unavailable):
                return
            await anyio.sleep(_LISTEN_AGAIN_S)


_PASSED_ON = (CLIENT_CAPABILITIES_META_KEY, LOG_LEVEL_META_KEY)


def envelope(
    protocol: str, client: Mapping[str, Any], capabilities: Mapping[str, Any]
) -> dict[str, Any]:
    """What `_meta` tells a server of 2026-07-28 with each request."""
    return {
        PROTOCOL_VERSION_META_KEY: protocol,
        CLIENT_INFO_META_KEY: dict(client),
        CLIENT_CAPABILITIES_META_KEY: dict(capabilities),
    }
