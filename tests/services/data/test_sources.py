"""Data sets from a named source, on a real server."""

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import (
    Denied,
    HubError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from mcp_hub.adapters.sources.mongodb import MongoDBSource
from mcp_hub.adapters.sources.sqlite import SqliteSource
from mcp_hub.services.data.options import SourceQuery
from mcp_hub.services.data.service import DataService
from mcp_hub.services.data.sources import Sources
from tests.servers import SECRET_KEY, Server

CUSTOMERS: list[dict[str, Any]] = [
    {"_id": number, "age": 20 + number % 50, "address": {"city": ["Rome", "Oslo"][number % 2]}}
    for number in range(200)
]


@pytest.fixture
async def crm(mongodb_server: Server) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    async with AsyncMongoClient[dict[str, Any]](mongodb_server.url) as client:
        database = client[f"crm{uuid4().hex}"]
        await database["customers"].insert_many(CUSTOMERS)
        yield database


@pytest.fixture
def data(
    database: SqliteDatabase,
    blobs: FileBlobStore,
    bus: DatabaseBus,
    tmp_path: Path,
    crm: AsyncDatabase[dict[str, Any]],
    mongodb_server: Server,
) -> DataService:
    url = mongodb_server.url.replace("/hub?", f"/{crm.name}?").replace("//hub:", "//reader:")
    lost = url.replace("127.0.0.1", "nowhere.invalid")
    return DataService(
        database,
        blobs,
        bus,
        roots=[tmp_path],
        max_bytes=1_000_000,
        max_rows=1_000,
        sources=Sources(
            {
                "crm": partial(MongoDBSource, url, "data.sources.crm.url"),
                "lost": partial(MongoDBSource, lost, "data.sources.lost.url", timeout_s=0.5),
            },
            open_sqlite=SqliteSource,
        ),
    )


async def test_a_collection_becomes_a_version(data: DataService) -> None:
    view = await data.register("customers", source="crm:customers")
    assert (view.dataset, view.rows, view.format) == ("customers:1", 200, "parquet")
    assert view.source == "crm:customers"
    kinds = {column.name: (column.dtype, column.kind) for column in view.columns}
    assert kinds == {
        "_id": ("Int64", "identifier"),
        "age": ("Int64", "number"),
        "address.city": ("String", "category"),
    }
    preview = await data.preview("customers", 1)
    assert preview.rows == [[0, 20, "Rome"]]


async def test_the_same_documents_are_the_same_version_and_others_the_next(
    data: DataService, crm: AsyncDatabase[dict[str, Any]]
) -> None:
    first = await data.register("customers", source="crm:customers")
    assert await data.register("customers", source="crm:customers") == first
    await crm["customers"].delete_one({"_id": 3})
    second = await data.register("customers", source="crm:customers")
    assert (second.version, second.rows) == (2, 199)
    # A version is a snapshot: what happens to the collection does not happen to it.
    assert (await data.profile("customers:1")).rows == 200


async def test_a_query_chooses_rows_and_columns_and_is_recorded(data: DataService) -> None:
    query = SourceQuery(filter={"address.city": "Oslo"}, fields=["age"], limit=10)
    view = await data.register("oslo", source="crm:customers", query=query)
    assert (view.rows, [column.name for column in view.columns]) == (10, ["age"])
    assert view.source == (
        'crm:customers {"filter": {"address.city": "Oslo"}, "fields": ["age"], "limit": 10}'
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message", "hint"),
    [
        ({"source": "crm:customer"}, NotFound, "no collection 'customer'", "'customers'"),
        ({"source": "crn:customers"}, NotFound, "no source 'crn'", "Did you mean 'crm'"),
        ({"source": "crm:customers", "format": "csv"}, InvalidArgument, "for files", "Leave"),
        ({"source": "x.csv", "query": SourceQuery()}, InvalidArgument, "NAME:ITEM", "crm, lost"),
        (
            {"source": "crm:customers", "query": SourceQuery(sql="SELECT 1")},
            InvalidArgument,
            "query.sql is not for",
            "filter, fields, limit",
        ),
        (
            {"source": "crm:customers", "query": SourceQuery(filter={"age": 999})},
            InvalidArgument,
            "0 rows",
            "Check the query",
        ),
        (
            {"source": "crm:customers", "query": SourceQuery(filter={"$where": "1"})},
            InvalidArgument,
            "where is not allowed",
            "\\$gte",
        ),
        ({"source": "lost:customers"}, Unavailable, "cannot be reached", "data.sources.lost.url"),
        ({"source": "mongodb://host/db/customers"}, Denied, "by its URL", "crm, lost"),
        ({"source": "MONGODB+SRV://u:p@host/db"}, Denied, "by its URL", "crm, lost"),
        ({"source": "https://host/x.csv"}, Denied, "by its URL", "crm, lost"),
    ],
)
async def test_what_is_wrong_is_said(
    data: DataService, arguments: dict[str, Any], error: type[Exception], message: str, hint: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        await data.register("x", **arguments)
    told = f"{raised.value} {getattr(raised.value, 'hint', '')}"
    assert hint.replace("\\", "") in told
    assert SECRET_KEY not in told
    assert "u:p@" not in told
    assert (await data.list()).items == []


async def test_more_than_the_limit_is_refused(
    data: DataService, crm: AsyncDatabase[dict[str, Any]]
) -> None:
    await crm["large"].insert_many([{"text": "x" * 100_000} for _ in range(30)])
    with pytest.raises(LimitExceeded, match="1000000 bytes"):
        await data.register("large", source="crm:large")
    view = await data.register("large", source="crm:large", query=SourceQuery(limit=5))
    assert view.rows == 5


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A SQLite file inside the root, with the tables `orders` and `empty`."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT, total REAL)")
        connection.execute("CREATE TABLE empty (id INTEGER)")
        connection.executemany(
            "INSERT INTO orders (city, total) VALUES (?, ?)",
            [(["Rome", "Oslo"][number % 2], number / 4) for number in range(2_000)],
        )
    connection.close()
    return path


async def test_a_table_of_a_sqlite_file_becomes_a_version(data: DataService, shop: Path) -> None:
    view = await data.register("orders", source="shop.db:orders", query=SourceQuery(limit=500))
    assert (view.rows, view.format) == (500, "parquet")
    assert view.source == f'{shop}:orders {{"limit": 500}}'
    assert [column.dtype for column in view.columns] == ["Int64", "String", "Float64"]


async def test_a_select_becomes_a_version_and_is_recorded(data: DataService, shop: Path) -> None:
    query = SourceQuery(
        sql="SELECT city, sum(total) AS total FROM orders WHERE id > ? GROUP BY city",
        parameters=[10],
    )
    view = await data.register("cities", source=str(shop), query=query)
    assert view.rows == 2
    assert view.source.startswith(f'{shop} {{"sql": "SELECT city')
    assert '"parameters": [10]' in view.source


@pytest.mark.parametrize(
    ("source", "sql", "error", "message"),
    [
        ("shop.db", None, InvalidArgument, "has 2 tables"),
        ("shop.db:order", None, NotFound, "no table 'order'"),
        ("shop.db:empty", None, InvalidArgument, "0 rows"),
        ("shop.db:orders", None, LimitExceeded, "more than the 1000 rows"),
        ("shop.db", "SELECT * FROM orders WHERE", InvalidArgument, "incomplete input"),
        ("shop.db", "DELETE FROM orders", Denied, "only ever read"),
        ("shop.db:orders", "SELECT 1", InvalidArgument, "either a table or a SELECT"),
        ("../outside.db:orders", None, Denied, "outside the folders"),
        ("nowhere.db:orders", None, NotFound, "no file"),
    ],
)
async def test_what_is_wrong_with_sql_is_said(
    data: DataService, shop: Path, source: str, sql: str | None, error: type[HubError], message: str
) -> None:
    query = SourceQuery(sql=sql) if sql else None
    with pytest.raises(error, match=message) as raised:
        await data.register("x", source=source, query=query)
    assert raised.value.hint
    assert (await data.list()).items == []


@pytest.fixture
def link(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A link inside the root to a file outside of it."""
    link = shop.with_name("link.db")
    link.symlink_to(shop.rename(tmp_path_factory.mktemp("outside") / "shop.db"))
    return link


async def test_a_link_out_of_the_roots_is_denied(data: DataService, link: Path) -> None:
    with pytest.raises(Denied, match="outside"):
        await data.register("x", source=f"{link.name}:orders")


async def test_a_file_may_have_a_colon_in_its_name(data: DataService, tmp_path: Path) -> None:
    (tmp_path / "crn:x.csv").write_text("a,b\n1,2\n3,4\n")
    assert (await data.register("x", source="crn:x.csv")).rows == 2


async def test_a_source_says_what_it_is(data: DataService) -> None:
    assert data.sources.names == ["crm", "lost"]
    told = await data.sources.check("crm")
    assert told.startswith("MongoDB 8.")
    assert "reader:***@" in told
    assert told.endswith("1 items")
