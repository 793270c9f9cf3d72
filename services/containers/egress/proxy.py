"""A forward proxy for HTTP/1.1 that reaches the hosts of a list, and nothing else.

It runs by itself in a container that has Python 3.11 or newer, from the standard library alone:

    python3 -I proxy.py api.example.com '*.example.org' 192.0.2.7:8080

An entry is `host`, `*.domain` (its subdomains, not itself) or an IPv4 address, with `:port`;
without, the ports are 443 and 80. Names are resolved here, and a name that leads to an address
that is not public reaches it only if the list has that address by itself: so nobody's DNS can
point a listed name at the machines next door. Within a tunnel (CONNECT) nothing is looked at.
Each refusal is a line on standard output.

The list is for clients that come from within. The hub comes in by the address that leads out, and
reaches addresses on the other networks of the container instead, and nothing else.
"""

import asyncio
import ipaddress
import re
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

PORT = 3128
READY = "The proxy listens."

_DEFAULT_PORTS = frozenset({443, 80})
_MAX_HEAD = 32 * 1024
_MAX_CONNECTIONS = 256
_HEAD_S, _CONNECT_S, _IDLE_S = 15.0, 15.0, 900.0
_CHUNK = 64 * 1024

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z_.-]{0,252}[0-9A-Za-z_])?")
_VERSION = re.compile(r"HTTP/1\.[01]")
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
     "te", "upgrade", "host"}
)  # fmt: skip
# Reachable from within clouds only, though in ranges that are public elsewhere.
_METADATA = frozenset({"168.63.129.16"})
Copying = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]
"""Copies from one end to the other, and calls what it is given for each piece."""

_ANYWHERE = "192.0.2.1"
"""An address that nobody has."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Refused(Exception):
    """A request that is not carried out, with the status and the reason that the client gets."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    """One entry of the list. `host` is in lower case; a wildcard's is what follows `*`."""

    host: str
    is_wildcard: bool
    ports: frozenset[int]

    @classmethod
    def of(cls, text: str) -> "Entry":
        """Raises ValueError for what is none."""
        host, _, port = text.partition(":")
        is_wildcard = host.startswith("*.")
        host = host.removeprefix("*").lower()
        if not _HOST.fullmatch(host.removeprefix(".")):
            raise ValueError(f"{text!r} is no host: api.example.com, *.example.com:443")
        if not port:
            return cls(host, is_wildcard, _DEFAULT_PORTS)
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"{text!r} has no port from 1 to 65535")
        return cls(host, is_wildcard, frozenset({int(port)}))

    def covers(self, host: str, port: int) -> bool:
        if port not in self.ports:
            return False
        if self.is_wildcard:
            return host.endswith(self.host) and host != self.host and not is_address(host)
        return host == self.host


class AllowList:
    """Which hosts and ports may be reached."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.entries = tuple(entries)
        self._parsed = tuple(Entry.of(entry) for entry in self.entries)

    def has(self, host: str, port: int) -> bool:
        """Whether the list has a host: a name in lower case, or an address."""
        return any(entry.covers(host, port) for entry in self._parsed)


def is_address(host: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _source(address: str) -> str | None:
    """This machine's address on the way to another; nothing is sent."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])
    return None


def _gateway() -> str | None:
    """The address that leads anywhere else; None where nothing does."""
    with Path("/proc/net/route").open() as table:
        for _, to, gateway, *_ in map(str.split, table):
            if to == "00000000":
                return socket.inet_ntoa(bytes.fromhex(gateway)[::-1])
    return None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, wherever it is embedded."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and str(ip) not in _METADATA


def parse_authority(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of `host:port` or `[address]:port`; the host in lower case, without a final
    dot. Raises Refused."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]@]+))(?::([0-9]{1,5}))?", text)
    if match is None:
        raise Refused(400, "the host is malformed")
    bracketed, name, digits = match.groups()
    port = int(digits) if digits else default_port
    if port is None or not 0 < port < 65_536:
        raise Refused(400, "the port is missing or wrong")
    if bracketed is not None:
        if not is_address(bracketed):
            raise Refused(400, "the host is malformed")
        return str(ipaddress.ip_address(bracketed)), port
    host = name.lower().removesuffix(".")
    if not _HOST.fullmatch(host):
        raise Refused(400, "the host is malformed")
    return host, port


@dataclass(frozen=True)
class Request:
    """A request's first line and headers, as far as a proxy needs them."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, head: bytes) -> "Request":
        """Strictly: what two servers might read differently is refused. Raises Refused."""
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not _VERSION.fullmatch(parts[2]):
            raise Refused(400, "the request line is malformed")
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not _TOKEN.fullmatch(name) or re.search(r"[\r\n\0]", value):
                raise Refused(400, "a header is malformed")
            headers.append((name, value.strip(" \t")))
        if re.search(r"[\x00-\x20\x7f]", parts[1]):
            raise Refused(400, "the request line is malformed")
        return cls(parts[0], parts[1], tuple(headers))

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def body(self) -> int | None:
        """The length of the body; None: it is chunked. Raises Refused."""
        codings, lengths = self.values("transfer-encoding"), self.values("content-length")
        if codings:
            if lengths or [coding.lower() for coding in codings] != ["chunked"]:
                raise Refused(400, "the length of the body is ambiguous")
            return None
        if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,15}", one) for one in lengths):
            raise Refused(400, "the length of the body is ambiguous")
        return int(lengths[0]) if lengths else 0

    def forwarded(self, path: str, authority: str) -> bytes:
        """The head that the server gets: it closes the connection after its response."""
        dropped = _HOP_BY_HOP | {
            name.strip().lower() for value in self.values("connection") for name in value.split(",")
        } - {"transfer-encoding", "content-length"}
        lines = [f"{self.method} {path} HTTP/1.1", f"Host: {authority}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in dropped]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Proxy:
    """The proxy: give `serve` to `asyncio.start_server`, with `limit=LIMIT`."""

    LIMIT = _MAX_HEAD

    def __init__(
        self,
        allowed: AllowList,
        *,
        outer: str | None = None,
        gateway: str | None = None,
        idle_s: float = _IDLE_S,
    ) -> None:
        """`outer` is this container's address on the network that leads out, `gateway` is that of
        the engine's machine, where the hub is."""
        self._allowed = allowed
        self._outer = outer
        self._gateway = gateway
        self._idle_s = idle_s
        self._connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out the one request of a client's connection, and close it."""
        self._connections += 1
        what = "a connection"
        try:
            if self._connections > _MAX_CONNECTIONS:
                raise Refused(503, f"more than {_MAX_CONNECTIONS} connections at a time")
            request = await self._read(reader)
            what = f"{request.method[:20]} {request.target[:200]}"
            await self._carry_out(request, reader, writer)
        except Refused as refused:
            _log(f"refused {what} from {_peer(writer)}: {refused.reason}")
            await self._answer(writer, refused)
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # Either end left, or idled: all that is left to do is to close.
        finally:
            self._connections -= 1
            await _close(writer)

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        try:
            async with asyncio.timeout(_HEAD_S):
                return Request.of(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            raise Refused(431, f"the headers are longer than {_MAX_HEAD} bytes") from None
        except TimeoutError:
            raise Refused(408, f"no request within {_HEAD_S:.0f} s") from None

    async def _carry_out(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        comes_from_outside = writer.get_extra_info("sockname")[0] == self._outer
        if request.method == "CONNECT":
            host, port = parse_authority(request.target)
            head, send = b"", partial(_copy_all, reader)
        else:
            host, port, path, authority = _split(request.target)
            head, length = request.forwarded(path, authority), request.body()
            send = (
                partial(_copy_chunked, reader) if length is None
                else partial(_copy_length, reader, length)
            )  # fmt: skip
        if comes_from_outside:
            addresses = self._inner(host, _peer(writer))
        else:
            addresses = await self._resolve(host, port)
        answers, server = await self._connect(addresses, port, host)
        try:
            if head:
                server.write(head)
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            # Whoever comes from outside has deadlines of its own.
            idle_s = None if comes_from_outside else self._idle_s
            await _relay(partial(send, server), partial(_copy_all, answers, writer), idle_s)
        finally:
            await _close(server)

    def _inner(self, host: str, client: str) -> list[str]:
        """The address of a machine on another network than the outer. Raises Refused."""
        if client != self._gateway:
            raise Refused(403, "only the hub comes in by this address")
        source = _source(host) if is_address(host) else None
        if source in (None, self._outer) or ipaddress.ip_address(host).is_loopback:
            raise Refused(403, f"{host} is no address of the deployment's network")
        return [host]

    async def _resolve(self, host: str, port: int) -> list[str]:
        """The addresses at which a host may be reached. Raises Refused."""
        if not self._allowed.has(host, port):
            raise Refused(403, f"{host}:{port} is not in this deployment's list of hosts")
        try:
            async with asyncio.timeout(_CONNECT_S):
                found = await asyncio.get_running_loop().getaddrinfo(
                    host, port, type=socket.SOCK_STREAM
                )
        except (OSError, UnicodeError):
            raise Refused(502, f"{host} has no address") from None
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        good = [one for one in addresses if is_public(one) or self._allowed.has(one, port)]
        if not good:
            raise Refused(403, f"{host} leads to {addresses[0]}, which is not public nor listed")
        return good

    async def _connect(
        self, addresses: list[str], port: int, host: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CONNECT_S):
                for address in addresses:
                    with suppress(OSError):
                        return await asyncio.open_connection(address, port)
        raise Refused(502, f"{host}:{port} does not answer")

    async def _answer(self, writer: asyncio.StreamWriter, refused: Refused) -> None:
        """Where nothing was sent yet. Most clients show the reason, not the body, of a refusal."""
        allowed = ", ".join(self._allowed.entries) or "none"
        body = f"{refused.reason}. Hosts that may be reached: {allowed}\n".encode()
        writer.write(
            f"HTTP/1.1 {refused.status} {refused.reason}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                await writer.drain()


def _split(target: str) -> tuple[str, int, str, str]:
    """Host, port, path and `Host` header of a target in absolute form. Raises Refused."""
    scheme, colon, rest = target.partition("://")
    if not colon or scheme.lower() != "http":
        raise Refused(400, "this is a proxy: ask for http://host/path, or CONNECT host:port")
    authority, path = re.fullmatch(r"([^/?#]*)(.*)", rest).groups()  # type: ignore[union-attr]
    path = path.partition("#")[0]
    return *parse_authority(authority, 80), path if path.startswith("/") else f"/{path}", authority


async def _relay(up: Copying, down: Copying, idle_s: float | None) -> None:
    """Both ways at once, until the server has ended or nothing has come for a while."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle_s) as deadline:

        def note() -> None:
            if idle_s is not None:
                deadline.reschedule(loop.time() + idle_s)

        sending = loop.create_task(up(note))
        try:
            await down(note)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _copy_all(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[], None]
) -> None:
    while data := await reader.read(_CHUNK):
        note()
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _copy_length(
    reader: asyncio.StreamReader,
    length: int,
    writer: asyncio.StreamWriter,
    note: Callable[[], None],
) -> None:
    while length:
        data = await reader.read(min(_CHUNK, length))
        if not data:
            raise EOFError
        note()
        length -= len(data)
        writer.write(data)
        await writer.drain()


async def _copy_chunked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[], None]
) -> None:
    size = -1
    while size:
        line = await reader.readuntil(b"\r\n")
        digits = line.partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", digits):
            raise EOFError
        size = int(digits, 16)
        writer.write(line)
        if size:
            await _copy_length(reader, size + 2, writer, note)
    while line != b"\r\n":
        line = await reader.readuntil(b"\r\n")
        writer.write(line)
    await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(5):
            await writer.wait_closed()


def _peer(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if peer else "nobody"


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(entries: Iterable[str], host: str = "0.0.0.0", port: int = PORT) -> None:
    """Serve until SIGTERM. Raises ValueError for an entry that is none."""
    loop = asyncio.get_running_loop()
    # Names are resolved in threads: few, for the container's processes are limited.
    loop.set_default_executor(ThreadPoolExecutor(8))
    proxy = Proxy(AllowList(entries), outer=_source(_ANYWHERE), gateway=_gateway())
    ended = asyncio.Event()
    # The first process of a container has no default for it.
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(proxy.serve, host, port, limit=Proxy.LIMIT)
    _log(READY)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1:]))
