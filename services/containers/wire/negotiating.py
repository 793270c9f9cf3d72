"""Greeting an MCP server: which era of the protocol it speaks, and what it says of itself."""

from collections.abc import Mapping
from time import monotonic
from typing import Any, Literal

from mcp.types import SERVER_INFO_META_KEY, UNSUPPORTED_PROTOCOL_VERSION
from mcp.types.version import (
    HANDSHAKE_PROTOCOL_VERSIONS,
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    MODERN_PROTOCOL_VERSIONS,
)

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.containers.wire.sessions import CAPABILITIES, ServerInfo, envelope

Protocol = Literal["auto", "2025-11-25", "2026-07-28"]

_PROBE_S = 10.0
"""A server that does not know `server/discover` may keep silent about it."""
_PROBE_SHARE = 1 / 3


async def open_session(
    channel: Channel,
    protocol: Protocol = "auto",
    *,
    client: Mapping[str, Any],
    capabilities: Mapping[str, Any] = CAPABILITIES,
    timeout_s: float,
) -> ServerInfo:
    """Greet the server: by `server/discover`, and by `initialize` where that brings nothing.

    Whatever a server makes of a method that it does not know, it is then initialised: an error,
    nonsense and silence all mean that it is of the older era.

    Args:
        protocol: A version to insist on; "auto" takes the newest that both speak.
        client: `{name, version}`, by which the hub introduces itself.
        timeout_s: For all of it, the server's start included.

    Raises:
        Unavailable: the server ended, refused, or speaks no version that the hub does.
        TimedOut: it did not answer.
    """
    return await _Greeting(channel, protocol, client, capabilities, timeout_s).greet()


class _Greeting:
    def __init__(
        self,
        channel: Channel,
        protocol: Protocol,
        client: Mapping[str, Any],
        capabilities: Mapping[str, Any],
        timeout_s: float,
    ) -> None:
        self._channel = channel
        self._protocol = protocol
        self._client = client
        self._capabilities = capabilities
        self._timeout_s = timeout_s
        self._until = monotonic() + timeout_s
        self._probe_s = min(_PROBE_S, timeout_s * _PROBE_SHARE)

    async def greet(self) -> ServerInfo:
        try:
            return await self._greet()
        except TimedOut as error:
            raise TimedOut(
                f"The server did not greet the hub within {self._timeout_s:g} s.", error.hint
            ) from None

    async def _greet(self) -> ServerInfo:
        if self._protocol in HANDSHAKE_PROTOCOL_VERSIONS:
            return await self._initialize(self._protocol)
        if self._protocol in MODERN_PROTOCOL_VERSIONS:
            return await self._insist(self._protocol)
        found = await self._probe(LATEST_MODERN_VERSION)
        if isinstance(found, str):
            found = await self._probe(found)
        if isinstance(found, ServerInfo):
            return found
        return await self._initialize(LATEST_HANDSHAKE_VERSION)

    async def _probe(self, version: str) -> ServerInfo | str | None:
        """What `server/discover` brought; a version to ask it by instead; or None."""
        try:
            result = await self._discover(version, min(self._probe_s, self._left()))
        except TimedOut:
            return None
        except RpcError as error:
            supported = _supported(error)
            if supported is None:
                return None
            if mutual := _mutual(supported):
                return mutual
            _check_can_be_initialised(supported)
            return None
        return _discovered(result)

    async def _insist(self, version: str) -> ServerInfo:
        try:
            found = _discovered(await self._discover(version, self._left()))
        except RpcError as error:
            raise _refused("server/discover", error) from None
        if found is None or found.protocol != version:
            raise Unavailable(
                f"The server does not speak {version}.", 'Deploy it with protocol="auto".'
            )
        return found

    async def _initialize(self, version: str) -> ServerInfo:
        params = {
            "protocolVersion": version,
            "capabilities": dict(self._capabilities),
            "clientInfo": dict(self._client),
        }
        try:
            result = await self._channel.request("initialize", params, timeout_s=self._left())
        except RpcError as error:
            # A slow server that took the probe late speaks the newer era from then on.
            mutual = _mutual(_supported(error) or [])
            if mutual is not None and self._protocol == "auto":
                return await self._insist(mutual)
            raise _refused("initialize", error) from None
        spoken = result.get("protocolVersion")
        if spoken not in HANDSHAKE_PROTOCOL_VERSIONS:
            raise Unavailable(
                f"The server speaks {str(spoken)[:100]!r}, which the hub does not.",
                f"The hub speaks {_spoken_here()}.",
            )
        await self._channel.notify("notifications/initialized")
        return _info(str(spoken), result, result.get("serverInfo"))

    async def _discover(self, version: str, timeout_s: float) -> dict[str, Any]:
        meta = envelope(version, self._client, self._capabilities)
        return await self._channel.request("server/discover", {"_meta": meta}, timeout_s=timeout_s)

    def _left(self) -> float:
        return max(0.0, self._until - monotonic())


def _discovered(result: dict[str, Any]) -> ServerInfo | None:
    versions = result.get("supportedVersions")
    mutual = _mutual(versions) if isinstance(versions, list) else None
    if mutual is None or not isinstance(result.get("capabilities"), dict):
        return None
    meta = result.get("_meta")
    return _info(mutual, result, meta.get(SERVER_INFO_META_KEY) if isinstance(meta, dict) else None)


def _info(protocol: str, result: dict[str, Any], server: Any) -> ServerInfo:
    server = server if isinstance(server, dict) else {}
    capabilities, instructions = result.get("capabilities"), result.get("instructions")
    return ServerInfo(
        protocol=protocol,
        name=str(server.get("name", ""))[:200],
        version=str(server.get("version", ""))[:200],
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        instructions=instructions if isinstance(instructions, str) else None,
    )


def _check_can_be_initialised(supported: list[str]) -> None:
    if not any(version in HANDSHAKE_PROTOCOL_VERSIONS for version in supported):
        raise Unavailable(
            f"The server speaks only {', '.join(supported)[:200]}.",
            f"The hub speaks {_spoken_here()}.",
        )


def _supported(error: RpcError) -> list[str] | None:
    """The versions that an error names which says that another was wanted."""
    if error.code != UNSUPPORTED_PROTOCOL_VERSION or not isinstance(error.data, dict):
        return None
    versions = error.data.get("supported")
    return [v for v in versions if isinstance(v, str)] if isinstance(versions, list) else None


def _mutual(versions: list[Any]) -> str | None:
    """The newest version of the newer era that is among them."""
    return next((v for v in reversed(MODERN_PROTOCOL_VERSIONS) if v in versions), None)


def _refused(method: str, error: RpcError) -> Unavailable:
    return Unavailable(f"The server refused {method}: {error.message} ({error.code})")


def _spoken_here() -> str:
    return ", ".join((*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS))
