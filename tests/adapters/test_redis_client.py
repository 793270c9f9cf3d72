"""What is said of a Redis whose TLS does not fit; what every Redis adapter stands on."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from mcp_hub.adapters import redis_client
from mcp_hub.adapters.errors import Unavailable
from tests.certificates import write_certificate
from tests.proxy import Proxy
from tests.servers import Server


@asynccontextmanager
async def with_tls(
    folder: Path, server: Server, valid_for: timedelta
) -> AsyncIterator[tuple[int, Path]]:
    """The server behind TLS: its port, and the file that vouches for its certificate."""
    certificate, key = write_certificate(folder, valid_for)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with Proxy(server.port).running(context) as proxy:
        yield proxy.port, certificate


async def described(url: str) -> str:
    redis = redis_client.connect(url)
    try:
        with anyio.fail_after(20):
            return await redis_client.describe(redis, url)
    finally:
        await redis.aclose()


async def refused(url: str) -> Unavailable:
    with pytest.raises(Unavailable) as raised:
        await described(url)
    assert "secret" not in f"{raised.value.message} {raised.value.hint}"
    assert "Redis at redis" in raised.value.message
    return raised.value


async def test_a_certificate_that_holds_is_trusted(redis_server: Server, tmp_path: Path) -> None:
    async with with_tls(tmp_path, redis_server, timedelta(days=1)) as (port, authority):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority}"
        assert (await described(url)).startswith("Redis ")


async def test_an_expired_certificate(redis_server: Server, tmp_path: Path) -> None:
    async with with_tls(tmp_path, redis_server, timedelta(days=-1)) as (port, authority):
        error = await refused(f"rediss://:secret@127.0.0.1:{port}/0?ssl_ca_certs={authority}")
    assert "certificate has expired" in error.message
    assert (error.hint or "").startswith("Renew the server's certificate")


async def test_a_certificate_that_nobody_vouches_for(redis_server: Server, tmp_path: Path) -> None:
    async with with_tls(tmp_path, redis_server, timedelta(days=1)) as (port, _):
        error = await refused(f"rediss://:secret@127.0.0.1:{port}/0")
    assert "self-signed certificate" in error.message
    assert "ssl_ca_certs" in (error.hint or "")


async def test_a_server_with_tls_without_it(redis_server: Server, tmp_path: Path) -> None:
    async with with_tls(tmp_path, redis_server, timedelta(days=1)) as (port, _):
        error = await refused(f"redis://:secret@127.0.0.1:{port}/0")
    assert (error.hint or "").endswith("A server with TLS needs rediss://.")


async def test_a_server_without_tls_over_it(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "CONNECT_TIMEOUT_S", 0.5)
    error = await refused(f"rediss://:secret@127.0.0.1:{redis_server.port}/0")
    assert (error.hint or "").endswith("A server without TLS needs redis://.")
