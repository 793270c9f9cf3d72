import json
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from minio import Minio

from mcp_hub.adapters.errors import InvalidArgument, NotFound, Unavailable
from mcp_hub.adapters.sources.port import FileSource
from mcp_hub.adapters.sources.s3 import S3Source
from tests.adapters.sources.contract import FileSourceContract, Fill
from tests.proxy import Proxy
from tests.servers import ACCESS_KEY, SECRET_KEY, STRANGER_KEY, Server

SETTING = "data.sources.lake.url"


@pytest.fixture
def bucket() -> str:
    return f"lake{uuid4().hex}"


@pytest.fixture
def url(s3_server: Server, bucket: str) -> str:
    return s3_server.url.replace("/hub?", f"/{bucket}?") + "&prefix=data"


@pytest.fixture
def client(s3_server: Server, bucket: str) -> Minio:
    client = Minio(
        f"127.0.0.1:{s3_server.port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False
    )
    client.make_bucket(bucket)
    return client


@pytest.fixture
async def source(url: str, client: Minio) -> AsyncIterator[S3Source]:
    source = S3Source(url, SETTING, timeout_s=5)
    yield source
    await source.close()


@pytest.fixture
def fill(client: Minio, bucket: str) -> Fill:
    async def fill(item: str, rows: list[dict[str, Any]]) -> None:
        data = "".join(json.dumps(row, default=str) + "\n" for row in rows).encode()
        client.put_object(bucket, f"data/{item}", BytesIO(data), len(data))

    return fill


class TestS3Source(FileSourceContract):
    @pytest.fixture
    def source(self, source: S3Source) -> FileSource:  # type: ignore[override]
        return source

    @pytest.fixture
    def fill(self, fill: Fill) -> Fill:  # type: ignore[override]
        return fill


async def test_a_bucket_that_is_not_there_is_said(url: str, bucket: str, tmp_path: Path) -> None:
    source = S3Source(url.replace(bucket, "nowhere"), SETTING)
    with pytest.raises(NotFound, match=r"no object 'x\.csv'"):
        await source.fetch("x.csv", tmp_path / "x", 10)
    await source.close()


async def test_what_refuses_is_unavailable(url: str, client: Minio, tmp_path: Path) -> None:
    for change in ((SECRET_KEY, "wrong-secret"), (ACCESS_KEY + ":", STRANGER_KEY + ":")):
        source = S3Source(url.replace(*change), SETTING)
        for attempt in (source.check(), source.fetch("x.csv", tmp_path / "x", 10)):
            with pytest.raises(Unavailable) as raised:
                await attempt
            told = f"{raised.value.message} {raised.value.hint}"
            assert SECRET_KEY not in told
            assert "wrong-secret" not in told
            assert "blobs_url" not in told
        await source.close()


def test_a_url_of_no_bucket_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="names no bucket"):
        S3Source("s3://key:secret@host", SETTING)


async def test_what_breaks_off_is_read_on(
    url: str, client: Minio, bucket: str, s3_server: Server, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 40_000
    client.put_object(bucket, "data/large.parquet", BytesIO(data), len(data))
    async with Proxy(s3_server.port).running() as proxy:
        source = S3Source(
            url.replace(f":{s3_server.port}/", f":{proxy.port}/"), SETTING, timeout_s=5
        )
        proxy.cut_receiving, proxy.cuts = 3_000_000, 2
        await source.fetch("large.parquet", tmp_path / "content", 100_000_000)
        assert (tmp_path / "content").read_bytes() == data
        proxy.reset()
        proxy.cut_receiving = 1_000
        with pytest.raises(Unavailable):
            await source.fetch("large.parquet", tmp_path / "content", 100_000_000)
        await source.close()
