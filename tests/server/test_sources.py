"""Data sets from the sources that the settings name, on real servers."""

from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import anyio
import polars as pl
import pytest
from minio import Minio
from redis.asyncio import Redis

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Denied, InvalidArgument, NotFound
from mcp_hub.server.adapters import choose_sources
from mcp_hub.server.settings import Settings
from mcp_hub.server.settings_sections import DataSettings
from mcp_hub.services.data.options import SourceQuery, StreamOptions
from mcp_hub.services.data.service import DataService
from tests.servers import ACCESS_KEY, SECRET_KEY, Server, postgres_url, run_sql
from tests.waiting import eventually

_BUCKET = f"lake{uuid4().hex}"
_OFF = {"postgres": {"enabled": False}, "redis": {"enabled": False}}


@pytest.fixture
async def shop(postgres_server: Server) -> AsyncIterator[str]:
    """The URL of a PostgreSQL database with a table `orders`."""
    name = f"s{uuid4().hex}"
    await run_sql(postgres_server.url, f"CREATE DATABASE {name}")
    url = postgres_url(postgres_server, name)
    await run_sql(
        url,
        "CREATE TABLE orders AS SELECT i AS id, 'Rome' AS city, i / 4.0 AS total, "
        "timestamptz '2024-01-01Z' + i * interval '1 hour' AS at FROM generate_series(1, 300) AS i",
    )
    yield url
    await run_sql(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(shop: str, redis_server: Server, s3_server: Server, tmp_path: Path) -> Settings:
    urls = {
        "shop": shop,
        "events": redis_server.url.replace("/0", "/14"),
        "lake": s3_server.url.replace("/hub?", f"/{_BUCKET}?") + "&prefix=raw",
    }
    sources = {name: {"url": url} for name, url in urls.items()}
    return Settings(
        data_dir=tmp_path, roots=[tmp_path], data=DataSettings.model_validate({"sources": sources})
    )


def _service(settings: Settings, database: SqliteDatabase) -> DataService:
    return DataService(
        database,
        FileBlobStore(settings.blobs_dir),
        DatabaseBus(database),
        roots=settings.roots,
        max_bytes=10_000_000,
        sources=choose_sources(settings),
    )


@pytest.fixture
def data(settings: Settings, database: SqliteDatabase) -> DataService:
    return _service(settings, database)


async def test_a_select_of_postgresql(data: DataService) -> None:
    query = SourceQuery(
        sql="SELECT id, city, total, at FROM orders WHERE at < $1 ORDER BY id",
        parameters=["2024-01-05"],
    )
    view = await data.register("orders", source="shop", query=query)
    assert view.rows == 95
    assert [column.dtype for column in view.columns] == [
        "Int64", "String", "Float64", "Datetime(time_unit='us', time_zone=None)"
    ]  # fmt: skip
    assert view.source.startswith('shop {"sql": "SELECT id')
    with pytest.raises(Denied, match="only ever read"):
        await data.register(
            "x", source="shop", query=SourceQuery(sql="DELETE FROM orders RETURNING id")
        )
    with pytest.raises(NotFound, match="no table 'order'"):
        await data.register("x", source="shop:order")
    told = await data.sources.check("shop")
    assert told.startswith("PostgreSQL")
    assert SECRET_KEY not in told + view.source


async def test_a_redis_stream(data: DataService, settings: Settings) -> None:
    async with Redis.from_url(settings.data.sources["events"].url) as redis:
        await redis.flushdb()
        for number in range(30):
            fields = {"n": number, "price": "1.50", "city": "Rome", "new": "true"}
            await redis.xadd("clicks", fields, id=f"{1_700_000_000_000 + number}-0")
        view = await data.register("clicks", source="events:clicks", query=SourceQuery(limit=20))
        await redis.flushdb()
    assert (view.rows, view.source) == (20, 'events:clicks {"limit": 20}')
    assert {column.name: column.dtype for column in view.columns} == {
        "_id": "String", "_time": "Datetime(time_unit='us', time_zone=None)",
        "n": "Int64", "price": "Float64", "city": "String", "new": "Boolean",
    }  # fmt: skip


async def test_a_redis_stream_grows_a_data_set_of_a_hub_on_postgresql(
    settings: Settings, postgres_url: str
) -> None:
    database = PostgresDatabase(postgres_url)
    data = DataService(
        database,
        FileBlobStore(settings.blobs_dir),
        DatabaseBus(database),
        roots=settings.roots,
        max_bytes=10_000_000,
        sources=choose_sources(settings),
    )
    async with Redis.from_url(settings.data.sources["events"].url) as redis:
        await redis.flushdb()
        await redis.xadd("clicks", {"n": 0})
        often = StreamOptions(interval_s=1, keep_versions=2)
        view = await data.growing.begin("clicks", "events:clicks", stream=often)
        assert view.rows == 1

        async def has(rows: int) -> bool:
            return (await data.get("clicks")).rows == rows

        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(data.growing.run)
            for number in (1, 2, 3):
                await redis.xadd("clicks", {"n": number})
                await eventually(partial(has, number + 1))
            tasks.cancel_scope.cancel()
        await redis.flushdb()
    preview = await data.preview("clicks")
    assert [row[preview.columns.index("n")] for row in preview.rows] == [0, 1, 2, 3]
    with pytest.raises(NotFound, match="no version 1"):
        await data.get("clicks:1")
    assert (await data.growing.stop("clicks")).version == 4
    await database.close()


async def test_objects_of_s3_are_files(data: DataService, s3_server: Server) -> None:
    client = Minio(
        f"127.0.0.1:{s3_server.port}", access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False
    )
    client.make_bucket(_BUCKET)
    frame = pl.DataFrame({"zip": ["01234", "98765"], "n": [1, 2]})
    parquet = BytesIO()
    frame.write_parquet(parquet)
    contents = {
        "a.csv": frame.write_csv().encode(),
        "b.jsonl": frame.write_ndjson().encode(),
        "c.parquet": parquet.getvalue(),
        "noextension": frame.write_csv().encode(),
    }
    for name, content in contents.items():
        client.put_object(_BUCKET, f"raw/{name}", BytesIO(content), len(content))
    for name, format in (("a.csv", "csv"), ("b.jsonl", "jsonl"), ("c.parquet", "parquet")):
        for source in (f"lake:{name}", f"s3://{_BUCKET}/raw/{name}"):
            view = await data.register(name, source=source)
            assert (view.rows, view.format, view.version) == (2, format, 1)
            assert view.source.startswith(f"s3://{_BUCKET}/raw/{name} (ETag ")
    view = await data.register(
        "d", source="lake:noextension", format="csv", options={"string_columns": ["zip"]}
    )
    assert (await data.preview("d")).rows[0] == ["01234", 1]
    with pytest.raises(InvalidArgument, match="lake cannot grow"):
        await data.growing.begin("x", "lake:a.csv")
    with pytest.raises(InvalidArgument, match="does not show"):
        await data.register("x", source="lake:noextension")
    with pytest.raises(InvalidArgument, match="query is not for files"):
        await data.register("x", source="lake:a.csv", query=SourceQuery(limit=1))
    with pytest.raises(NotFound, match=r"no object 'aa\.csv'"):
        await data.register("x", source="lake:aa.csv")
    for other in (f"s3://{_BUCKET}/other/a.csv", "s3://elsewhere/a.csv"):
        with pytest.raises(Denied, match="by its URL"):
            await data.register("x", source=other)


async def test_a_kind_may_be_switched_off(settings: Settings, database: SqliteDatabase) -> None:
    values = settings.data.model_dump() | {"connectors": _OFF}
    off = settings.model_copy(update={"data": DataSettings.model_validate(values)})
    data = _service(off, database)
    for source, kind in (("shop:orders", "postgres"), ("events:clicks", "redis")):
        with pytest.raises(Denied, match="switches off") as raised:
            await data.register("x", source=source)
        assert f"data.connectors.{kind}.enabled" in (raised.value.hint or "")
