"""The proxy, run here: what it lets through, and all that it does not."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.containers.egress.proxy import (
    AllowList,
    Proxy,
    Refused,
    Request,
    is_public,
    parse_authority,
)

_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
_hosts = st.lists(_labels, min_size=2, max_size=4).map(".".join)
_ports = st.integers(1, 65_535)
_DEADLINE_S = 10


@given(_hosts, _ports, _hosts, _ports)
def test_a_host_is_reached_only_as_listed(
    listed: str, listed_port: int, host: str, port: int
) -> None:
    assert AllowList([listed]).has(host, port) == (host == listed and port in (80, 443))
    with_port = AllowList([f"{listed}:{listed_port}"])
    assert with_port.has(host, port) == ((host, port) == (listed, listed_port))
    assert with_port.has(listed, listed_port)


@given(_hosts, _labels, _hosts)
def test_a_wildcard_covers_what_is_below_a_domain(domain: str, label: str, other: str) -> None:
    allowed = AllowList([f"*.{domain}"])
    below = f"{label}.{domain}"
    assert not allowed.has(domain, 443)
    assert not allowed.has(f"{label}{domain}", 443) or f"{label}{domain}".endswith(f".{domain}")
    assert allowed.has(other, 443) == (other.endswith(f".{domain}") and not _is_ip(other))
    assert allowed.has(below, 443) == (not _is_ip(below))
    assert not allowed.has(below, 8443)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@given(st.ip_addresses())
def test_an_address_within_another_is_judged_by_itself(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.version == 4:
        public = is_public(str(address))
        assert is_public(f"::ffff:{address}") == public
        assert is_public(f"64:ff9b::{address}") == public
        assert not (address.is_private and public)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.17.0.1", "192.168.0.1", "169.254.169.254", "100.100.100.200",
     "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
     "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:169.254.169.254", "2002:7f00:1::"],
)  # fmt: skip
def test_addresses_within_a_site_or_a_cloud_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_addresses_of_the_internet_are(address: str) -> None:
    assert is_public(address)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8")))
def test_any_head_is_read_or_refused(head: bytes) -> None:
    for one in (head, b"GET " + head + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + head):
        try:
            request = Request.of(one)
            request.body()
            forwarded = request.forwarded("/", "example.com")
        except Refused:
            continue
        assert forwarded.count(b"\r\n\r\n") == 1
        assert forwarded.endswith(b"\r\n\r\n")
        assert b"\n" not in forwarded.replace(b"\r\n", b"")


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9.\[\]:@%/-]{1,30}", fullmatch=True))
def test_any_authority_is_read_or_refused(text: str) -> None:
    try:
        host, port = parse_authority(text, 443)
    except Refused:
        return
    assert 0 < port < 65_536
    assert host == host.lower()
    assert _is_ip(host) or not set(host) & set(":/@[]% ")


@pytest.mark.parametrize(
    "entry", ["", "a b", "http://x", "x:0", "x:99999", "*", "x:8x", "[::1]:80", "x/y"]
)
def test_an_entry_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"is no host|has no port"):
        AllowList([entry])


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _listening(handler: Handler, limit: int = 65_536) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, limit=limit)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def _proxy(*entries: str, idle_s: float = 60) -> AsyncIterator[int]:
    proxy = Proxy(AllowList(entries), idle_s=idle_s)
    async with _listening(proxy.serve, Proxy.LIMIT) as port:
        yield port


async def _say(port: int, *pieces: bytes) -> bytes:
    """What comes back for some bytes, until the connection is closed."""
    async with asyncio.timeout(_DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with all that it was sent, after the blank line that must end the headers."""
    head = await reader.readuntil(b"\r\n\r\n")
    body = b""
    if b"hunked" in head:
        while not body.endswith(b"0\r\n\r\n"):
            body += await reader.read(100)
    elif b"Content-Length: " in head:
        body = await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + head + body)
    writer.close()


async def test_a_tunnel_carries_bytes_both_ways() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async with _listening(shout) as server, _proxy(f"127.0.0.1:{server}") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"CONNECT 127.0.0.1:{server} HTTP/1.1\r\n\r\n".encode())
        async with asyncio.timeout(_DEADLINE_S):
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            data = b"a" * 1_000_000
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data.upper()
        writer.close()


async def test_a_plain_request_is_passed_on_without_what_is_between_client_and_proxy() -> None:
    async with _listening(_echo) as server, _proxy(f"127.0.0.1:{server}") as port:
        answer = await _say(
            port,
            f"POST http://127.0.0.1:{server}/a?b=c HTTP/1.1\r\nHost: elsewhere\r\n"
            "Proxy-Authorization: Basic secret\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\n"
            "X-Kept: 2\r\nContent-Length: 5\r\n\r\nhello"
            "GET http://elsewhere/ HTTP/1.1\r\n\r\n".encode(),
        )
    assert answer.decode().partition("\r\n\r\n")[2] == (
        f"POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{server}\r\nConnection: close\r\nX-Kept: 2\r\n"
        "Content-Length: 5\r\n\r\nhello"
    )


async def test_a_chunked_body_ends_where_it_ends() -> None:
    chunks = b"5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n"
    async with _listening(_echo) as server, _proxy(f"127.0.0.1:{server}") as port:
        head = f"PUT http://127.0.0.1:{server} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await _say(port, head.encode(), chunks + b"GET / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n" + chunks)


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ("CONNECT evil.example:443", 403, "evil.example:443 is not in this deployment's list"),
        ("CONNECT localhost:22", 403, "localhost:22 is not in"),
        ("CONNECT localhost:443", 403, "localhost leads to 127.0.0.1, which is not public"),
        ("CONNECT LOCALHOST.:443", 403, "localhost leads to"),
        ("CONNECT 127.0.0.1:443", 403, "not in this"),
        ("CONNECT [::1]:443", 403, "not in this"),
        ("CONNECT localhost", 400, "port is missing"),
        ("CONNECT user@localhost:443", 400, "malformed"),
        ("GET http://localhost:80/", 403, "leads to"),
        ("GET http://localhost@evil.example/", 400, "malformed"),
        ("GET http://evil.example#@localhost/", 403, "evil.example:80 is not in"),
        ("GET https://localhost/", 400, "this is a proxy"),
        ("GET /", 400, "this is a proxy"),
        ("GET file:///etc/passwd", 400, "this is a proxy"),
        ("CONNECT nowhere.invalid:443", 502, "nowhere.invalid has no address"),
        ("BAD", 400, "malformed"),
    ],
)
async def test_what_is_refused_says_why(
    request_: str, status: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    version = "" if request_ == "BAD" else " HTTP/1.1"
    async with _proxy("localhost", "nowhere.invalid") as port:
        answer = (await _say(port, f"{request_}{version}\r\n\r\n".encode())).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert reason in answer.partition("\r\n")[0]
    assert answer.endswith("Hosts that may be reached: localhost, nowhere.invalid\n")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("refused ")
    assert reason in line


@pytest.mark.parametrize(
    "headers",
    ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5\r\nContent-Length: 6",
     "Content-Length: +5", "Transfer-Encoding: gzip, chunked", " folded: yes", "no colon",
     "Name : value", "a: b\nc: d"],
)  # fmt: skip
async def test_a_head_that_two_servers_could_read_differently_is_refused(headers: str) -> None:
    async with _proxy("localhost") as port:
        answer = await _say(port, f"GET http://localhost/ HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_too_long_a_head_is_refused() -> None:
    async with _proxy("localhost") as port:
        answer = await _say(port, b"GET http://localhost/ HTTP/1.1\r\nX: " + b"x" * 40_000)
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_more_connections_than_it_takes_are_refused() -> None:
    async with _proxy("localhost") as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(256)]
        assert (await _say(port, b"")).startswith(b"HTTP/1.1 503 ")
        for _, writer in held:
            writer.close()


async def test_a_connection_that_idles_is_closed() -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert not await reader.read()
        writer.close()

    async with _listening(wait) as server, _proxy(f"127.0.0.1:{server}", idle_s=0.1) as port:
        answer = await _say(port, f"CONNECT 127.0.0.1:{server} HTTP/1.1\r\n\r\n".encode())
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"


async def test_a_server_that_does_not_answer_is_told() -> None:
    async with _listening(_echo) as gone:
        pass
    async with _proxy(f"127.0.0.1:{gone}") as port:
        answer = await _say(port, f"CONNECT 127.0.0.1:{gone} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")
